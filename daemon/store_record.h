// What stores that write records down share: the pictures of a record by kind, and its text.
#ifndef YD_DAEMON_STORE_RECORD_H
#define YD_DAEMON_STORE_RECORD_H

#include "daemon/store.h"
#include "daemon/text.h"
#include <stdio.h>
#include <stdlib.h>

// The numbers are stored: new kinds go to the end.
typedef enum { YD_FILE_INPUT, YD_FILE_RESULT, YD_FILE_INVENTED, YD_FILE_ATTENTION, YD_FILE_ACTIVATION, YD_FILES } yd_record_file;

// Where the record has its picture of this kind. NULL for no kind.
yd_blob **yd_job_record_blob(yd_job_record *r, yd_record_file kind);

// Blobs keep their type's name as static text: this one's, or that of bytes of no known kind.
const char *yd_record_mime(const char *mime);
// Of a picture only that it exists, how large it is and what its digest is: without bytes. NULL: out of memory.
yd_blob *yd_record_placeholder(size_t len, const char *sha256);

// Everything that is no picture, event or searched column, as one line of JSON (yd_free). NULL: out of memory.
char *yd_job_record_print(const yd_job_record *r);
// Read it back into a record that has its searched columns already. YD_E_IO: the text is of another version, or damaged.
int yd_job_record_parse(yd_job_record *r, const char *text, yd_err *err);

#endif
