// Content negotiation by weight and by how exactly a range names a type.
#include "api/accept.h"
#include "tests/unit/t.h"

static const char *const offers[] = {"image/png", "image/webp", "image/jpeg"};

static void ranges_and_weights(void)
{
    static const struct {
        const char *header;
        int want;
    } row[] = {
        {NULL, 0},
        {"", 0},
        {"*/*", 0},
        {"image/*", 0},
        {"image/webp", 1},
        {"IMAGE/JPEG", 2},
        {"image/avif,image/webp,image/apng,image/*,*/*;q=0.8", 0}, // what browsers send for pictures: ours is as welcome
        {"image/png;q=0.5, image/jpeg;q=0.9, image/webp;q=0.8", 2},
        {"image/png;q=0.5,image/*;q=0.9", 1},
        {"image/*, image/png;q=0", 1},
        {"image/png; q=0.001", 0},
        {"image/png;q=0", -1},
        {"image/webp;charset=x;q=0.2, image/jpeg;q=0.1", 1},
        {"text/html, application/json", -1},
        {"image/pngx", -1},
        {"image/pn", -1},
        {"*", -1},
        {",,;q=1,", -1},
        {"text/html;q=1, */*;q=0.1", 0},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const int got = yd_accept_choose(row[i].header, offers, 3);
        CHECK_MSG(got == row[i].want, "'%s': %d, not %d", row[i].header ? row[i].header : "(none)", got, row[i].want);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {{"accept: ranges and weights", ranges_and_weights}};
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
