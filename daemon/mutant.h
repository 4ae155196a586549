// Promises broken on purpose, so that the tests which hold them can be seen to fail: `make MUTANT=NO_BLOB_SYNC` builds
// build/mutants/NO_BLOB_SYNC/yodad, in which YD_BROKEN(NO_BLOB_SYNC) is 1. In every other build all of them are the constant 0.
// tests/fault/fault_mutants.py has the list with the test that must notice each.
#ifndef YD_DAEMON_MUTANT_H
#define YD_DAEMON_MUTANT_H

enum {
    YD_MUTANT_NONE,
    YD_MUTANT_EARLY_ACK,      // told before the transaction commits
    YD_MUTANT_NO_BLOB_SYNC,   // a file is renamed before it is synced
    YD_MUTANT_NO_FOLDER_SYNC, // a rename is relied on before its folder is synced
    YD_MUTANT_NO_COMMIT_SYNC, // a commit does not sync the write-ahead log
    YD_MUTANT_EARLY_UNLINK,   // a file goes before the transaction that forgets it
    YD_MUTANT_NO_REQUEUE,     // what was under way is not taken up after a restart
    YD_MUTANT_TRUST_FILES,    // a stored picture is sent without a look at its digest
    YD_MUTANT_IGNORE_ENOSPC,  // a write of a picture that a full disk refuses counts as done
    YD_MUTANT_LEAK,           // 64 bytes of each request stay
    YD_MUTANT_BYTE_DEADLINE   // each byte of a body begins its deadline anew
};

#ifndef YD_MUTANT
#define YD_MUTANT YD_MUTANT_NONE
#endif
#define YD_BROKEN(name) (YD_MUTANT == YD_MUTANT_##name)

#endif
