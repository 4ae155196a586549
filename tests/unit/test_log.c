// Log lines: each is one JSON object of at most 4 KiB, whatever is put into it.
#include "daemon/log.h"

#include "t.h"
#include <jansson.h>
#include <unistd.h>

static FILE *caught;
static int real_stderr;

static void catch_lines(void)
{
    caught = tmpfile();
    real_stderr = dup(STDERR_FILENO);
    CHECK(caught && real_stderr >= 0 && dup2(fileno(caught), STDERR_FILENO) >= 0);
}

static void release_lines(void)
{
    CHECK(dup2(real_stderr, STDERR_FILENO) >= 0);
    close(real_stderr);
    rewind(caught);
}

// The next line as JSON; NULL at the end.
static json_t *next_line(void)
{
    char line[8192];
    if (!fgets(line, sizeof line, caught)) return NULL;
    CHECK_MSG(strlen(line) <= 4096 && line[strlen(line) - 1] == '\n', "%zu bytes", strlen(line));
    json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    CHECK_MSG(json_is_object(o), "%.200s", line);
    return o;
}

static const char *text(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

static void lines_are_json(void)
{
    catch_lines();
    yd_log(YD_LOG_INFO, "id-1", "hello", "path", "/a\"b\\c\n\x01\xff", "#status", "200", "#ms", "0.125", NULL);
    yd_log(YD_LOG_WARN, NULL, "no id", NULL);
    yd_log(YD_LOG_DEBUG, NULL, "below the level", NULL);
    release_lines();
    json_t *o = next_line();
    CHECK(strcmp(text(o, "level"), "info") == 0 && strcmp(text(o, "msg"), "hello") == 0);
    CHECK(strcmp(text(o, "req"), "id-1") == 0 && strlen(text(o, "ts")) == 24);
    CHECK_MSG(strcmp(text(o, "path"), "/a\"b\\c\n\x01\xef\xbf\xbd") == 0, "%s", text(o, "path"));
    CHECK(json_integer_value(json_object_get(o, "status")) == 200);
    CHECK(json_real_value(json_object_get(o, "ms")) == 0.125);
    json_decref(o);
    o = next_line();
    CHECK(strcmp(text(o, "level"), "warn") == 0 && !json_object_get(o, "req"));
    json_decref(o);
    CHECK(next_line() == NULL);
    fclose(caught);
}

// However much room is left when a field comes: it is there whole, cut as a text, or not there; a number is never cut.
static void long_lines_are_cut(void)
{
    char fill[4200];
    catch_lines();
    for (int n = 3850; n < 4150; n++) {
        memset(fill, 'a', (size_t)n);
        fill[n] = '\0';
        yd_log(YD_LOG_INFO, NULL, "long", "fill", fill, "#n", "1234567", "tail", "the end", NULL);
    }
    release_lines();
    int lines = 0, numbers = 0, tails = 0;
    for (json_t *o; (o = next_line()); lines++) {
        const json_t *n = json_object_get(o, "n");
        CHECK(!n || json_integer_value(n) == 1234567);
        numbers += n != NULL;
        tails += strcmp(text(o, "tail"), "the end") == 0;
        json_decref(o);
    }
    CHECK_MSG(lines == 300 && numbers > 50 && numbers < 250 && tails > 20 && tails < numbers, "%d %d %d", lines,
              numbers, tails);
    fclose(caught);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"log: lines are JSON", lines_are_json},
        {"log: long lines are cut", long_lines_are_cut},
    };
    yd_log_set_level("info");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
