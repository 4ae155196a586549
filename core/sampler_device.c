// A sampler whose canvas is on an accelerator: the arrays go there once, windows are cut out and put back there, the step is taken there;
// what comes back is the picture that is shown, a state that is saved, and the result.
//
// The host keeps what decides: which windows run, the step, its coefficients. Layout of the device's memory: the arrays one after the other,
// each on 256 bytes. Threads: the backend's owner; forget is any thread's, so the list of
// those that are on a device has a lock, which is held while one leaves. Read next: core/canvas.h, gpu/device/canvas.h.
#include "core/sampler_internal.h"

#include <string.h>

#define ALIGNMENT ((size_t)256)

// An array on both sides.
typedef struct part {
    void *host;
    size_t bytes;
    int state; // it changes as the job goes on
} part;

enum { Z, ACC, BEFORE, FIRST, COND, UP, A, WEIGHT_X, WEIGHT_Y, SHOWN, PARTS };

static void parts_of(const yd_sampler *s, part p[PARTS])
{
    const size_t px = (size_t)s->pixels, canvas = px * 3 * sizeof(float);
    const yd_axis *x = &s->win.x, *y = &s->win.y;
    memset(p, 0, PARTS * sizeof *p);
    p[Z] = (part){s->z, canvas, 1};
    p[ACC] = (part){s->acc, canvas, 1};
    if (s->before) p[BEFORE] = (part){s->before, canvas, 1};
    if (s->first) p[FIRST] = (part){s->first, canvas, 1};
    if (s->cond) p[COND] = (part){s->cond, canvas, 0};
    p[UP] = (part){s->up, px * 3 * sizeof *s->up, 0};
    p[A] = (part){s->a, px * sizeof *s->a, 0};
    p[WEIGHT_X] = (part){x->weight, (size_t)x->n * (size_t)s->win.window_w * sizeof *x->weight, 0};
    p[WEIGHT_Y] = (part){y->weight, (size_t)y->n * (size_t)s->win.window_h * sizeof *y->weight, 0};
    p[SHOWN] = (part){s->shown, px * 3, 1};
}

// Where each array lies in the device's memory; returns the bytes of all.
static size_t lay_out(const part p[PARTS], void *memory, void *at[PARTS])
{
    size_t used = 0;
    for (int i = 0; i < PARTS; i++) {
        at[i] = p[i].bytes ? (char *)memory + used : NULL;
        used += (p[i].bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return used;
}

static size_t bytes_of(const part p[PARTS])
{
    size_t used = 0;
    for (int i = 0; i < PARTS; i++) used += (p[i].bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return used;
}

static void describe(const yd_sampler *s, void *const at[PARTS], yd_canvas *c)
{
    *c = (yd_canvas){.w = s->w, .h = s->h, .window_w = s->win.window_w, .window_h = s->win.window_h, .windows_x = s->win.x.n};
    c->channels = yd_net_has_encoder(&s->cfg.net) ? 3 : 6;
    c->residual = s->cfg.target == YD_TARGET_RESIDUAL;
    c->rest_shown = !s->cfg.mask_input;
    c->seed = s->set.seed;
    c->z = at[Z], c->acc = at[ACC], c->before = at[BEFORE], c->first = at[FIRST], c->cond = at[COND];
    c->up = at[UP], c->a = at[A], c->weight_x = at[WEIGHT_X], c->weight_y = at[WEIGHT_Y], c->shown = at[SHOWN];
}

static int copy_state(const yd_sampler *s, int to_host, int all, yd_err *err)
{
    const yd_sampler_device *d = &s->device;
    part p[PARTS];
    void *at[PARTS];
    int rc = 0;
    parts_of(s, p);
    lay_out(p, d->memory, at);
    for (int i = 0; i < PARTS && !rc; i++) {
        if (!p[i].bytes || (!p[i].state && !all)) continue;
        rc = to_host ? d->be->canvas->read(d->be, p[i].host, at[i], p[i].bytes, err)
                     : d->be->canvas->write(d->be, at[i], p[i].host, p[i].bytes, err);
    }
    return rc;
}

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static yd_sampler *on_devices; // all that are on one, under list_lock

static void enlist(yd_sampler *s)
{
    pthread_mutex_lock(&list_lock);
    s->device.next = on_devices;
    s->device.prev = NULL;
    if (on_devices) on_devices->device.prev = s;
    on_devices = s;
    pthread_mutex_unlock(&list_lock);
}

// Under list_lock.
static void let_go(yd_sampler *s)
{
    yd_sampler_device *d = &s->device;
    if (!d->be) return;
    d->be->canvas->give(d->be, d->memory);
    if (d->prev)
        d->prev->device.next = d->next;
    else
        on_devices = d->next;
    if (d->next) d->next->device.prev = d->prev;
    *d = (yd_sampler_device){.refused = d->refused, .losses = d->losses};
}

void yd_sampler_device_forget(yd_sampler *s)
{
    pthread_mutex_lock(&list_lock);
    let_go(s);
    pthread_mutex_unlock(&list_lock);
}

int yd_sampler_on_device(const yd_sampler *s)
{
    return s->device.be != NULL;
}

int yd_sampler_losses(const yd_sampler *s)
{
    return s->device.losses;
}

void yd_sampler_device_failed(yd_sampler *s)
{
    s->device.failed = s->device.be != NULL;
}

int yd_sampler_enter(yd_sampler *s, yd_backend *be, yd_err *err)
{
    yd_sampler_device *d = &s->device;
    part p[PARTS];
    void *at[PARTS], *memory;
    if (d->failed) return yd_fail(err, YD_E_DEVICE, "the device failed while it had the job's canvas");
    if (d->be) return d->be == be ? 1 : yd_fail(err, YD_E_INTERNAL, "the job's canvas is on another device");
    if (!be->canvas || d->refused == be || s->noise || s->step == 0 || yd_net_has_encoder(&s->cfg.net)) return 0;
    parts_of(s, p);
    int rc = be->canvas->take(be, bytes_of(p), &memory, err);
    if (rc == YD_E_NOMEM) d->refused = be;
    if (rc) return rc == YD_E_NOMEM ? 0 : rc;
    d->be = be;
    d->memory = memory;
    d->owner = pthread_self();
    enlist(s);
    lay_out(p, d->memory, at);
    describe(s, at, &d->canvas);
    rc = copy_state(s, 0, 1, err);
    if (rc) yd_sampler_device_forget(s); // the host has everything as it was
    return rc ? rc : 1;
}

// Under list_lock.
static int leave(yd_sampler *s, yd_err *err)
{
    int rc = s->device.failed ? yd_fail(err, YD_E_DEVICE, "the device failed while it had the job's canvas") : copy_state(s, 1, 0, err);
    let_go(s);
    if (!rc) return 0;
    s->device.losses++;
    memset(s->acc, 0, (size_t)s->pixels * 3 * sizeof *s->acc);
    yd_sampler_start(s);
    return rc;
}

int yd_sampler_leave(yd_sampler *s, yd_err *err)
{
    pthread_mutex_lock(&list_lock);
    int rc = s->device.be ? leave(s, err) : 0;
    pthread_mutex_unlock(&list_lock);
    return rc;
}

void yd_sampler_leave_all(yd_backend *be)
{
    pthread_mutex_lock(&list_lock);
    for (yd_sampler *s = on_devices, *next; s; s = next) {
        next = s->device.next;
        if (s->device.be == be) (void)leave(s, NULL);
    }
    pthread_mutex_unlock(&list_lock);
}

void yd_sampler_device_unit(const yd_sampler *s, const yd_unit *u, yd_canvas_unit *out)
{
    *out = (yd_canvas_unit){.x = u->x, .y = u->y, .window = u->window, .step = u->step};
    if (!s->device.be) return;
    out->canvas = s->device.canvas;
    out->from = s->r[u->step];
    out->level = yd_sampler_told(s, u->step);
    out->rest_mean = s->sched->sqrt_gamma[u->step];
    out->rest_noise = s->sched->sqrt_1m_gamma[u->step];
}

int yd_sampler_device_step(yd_sampler *s, const yd_canvas_step *step, yd_err *err)
{
    return s->device.be->canvas->step(s->device.be, &s->device.canvas, step, err);
}

// A device that fails is found out by its next run; until then the last picture is shown.
void yd_sampler_device_show(const yd_sampler *s)
{
    const yd_sampler_device *d = &s->device;
    if (d->be && !d->failed && pthread_equal(d->owner, pthread_self()))
        (void)d->be->canvas->read(d->be, s->shown, d->canvas.shown, (size_t)s->pixels * 3, NULL);
}

int yd_sampler_device_fetch(const yd_sampler *s, yd_err *err)
{
    return s->device.be ? copy_state(s, 1, 0, err) : 0;
}

int yd_sampler_device_put(const yd_sampler *s, yd_err *err)
{
    return s->device.be ? copy_state(s, 0, 0, err) : 0;
}
