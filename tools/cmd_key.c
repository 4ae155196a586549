// yoda key: a new API key for yodad, and the line that goes into its key file.
//
// The key goes to stdout and is kept nowhere; the line goes to stderr, or, with --file, to the end of that file.
#include "core/keys.h"
#include "tools/args.h"
#include "tools/cli.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int append(const char *path, const char *line, yd_err *err)
{
    const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    const ssize_t len = (ssize_t)strlen(line);
    if (fd < 0) return yd_fail_field(err, YD_E_IO, "file", "a file that can be written", "%.200s: %s", path, strerror(errno));
    const int bad = write(fd, line, (size_t)len) != len || fsync(fd) != 0;
    if (close(fd) != 0 || bad) return yd_fail_field(err, YD_E_IO, "file", "a file that can be written", "%.200s: %s", path, strerror(errno));
    return 0;
}

static int make(const char *owner, const char *attributes, const char *file, yd_err *err)
{
    char key[YD_KEY_TEXT], hash[65], line[512];
    if (!yd_owner_valid(owner, strlen(owner)))
        return yd_fail_field(err, YD_E_SETTING, "OWNER", "1 to 63 letters, digits, '.', '_', '-'", "'%.64s' is no owner's name", owner);
    int rc = yd_key_make(key, hash, err);
    if (rc) return rc;
    const int n = snprintf(line, sizeof line, "%s %s%s%s\n", owner, hash, *attributes ? " " : "", attributes);
    if (n < 0 || (size_t)n >= sizeof line) return yd_fail_field(err, YD_E_SETTING, "with", "at most 380 bytes", "the attributes are too long");
    yd_keys *check = NULL;
    rc = yd_keys_parse(line, (size_t)n, &check, err);
    yd_keys_free(check);
    if (!rc && *file) rc = append(file, line, err);
    if (rc) return rc;
    puts(key);
    if (!*file) fprintf(stderr, "line for the key file:\n%s", line);
    return 0;
}

int yd_cmd_key(int argc, char **argv)
{
    static const yd_usage usage = {"key",
                                   "OWNER",
                                   1,
                                   0,
                                   "make an API key for yodad: the key on stdout, its hash for the key file",
                                   "  yoda key alice --file keys                       # then: yodad --keys keys\n"
                                   "  yoda key grafana --with scopes=metrics --file keys\n"
                                   "  yoda key bob --with 'rate=20 jobs=8 units_per_hour=2000000 weight=2' --file keys\n"};
    const char *owner = "", *attributes = "", *file = "";
    const yd_arg args[] = {
        {"file", 'f', YD_ARG_TEXT, &file, 0, 0, "FILE", "append the line to this key file (made with mode 0600)"},
        {"with", 'w', YD_ARG_TEXT, &attributes, 0, 0, "TEXT", "what the owner may: scopes=, rate=, jobs=, units_per_hour=, weight="},
    };
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, &owner);
    if (status != YD_ARGS_GO_ON) return status;
    yd_err err = {0};
    return make(owner, attributes, file, &err) ? yd_cli_fail("key", NULL, &err) : 0;
}
