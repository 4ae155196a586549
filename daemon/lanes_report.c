// What the service says of its devices: in service or not and why, what they have done, and their memory. Only reads. Threads: the loop thread.
#include "daemon/service_internal.h"

#include "daemon/clock.h"
#include <math.h>

static const char *state_word(const yd_lane *l)
{
    static const char *const words[] = {[YD_LANE_OPENING] = "opening",
                                        [YD_LANE_UP] = "in-service",
                                        [YD_LANE_DOWN] = "out-of-service",
                                        [YD_LANE_REFUSED] = "left-out"};
    return words[l->state];
}

json_t *yd_lanes_names(const yd_service *s, unsigned lanes)
{
    json_t *list = json_array();
    for (int i = 0; list && i < s->n_lanes; i++)
        if (lanes & 1u << i) json_array_append_new(list, json_string(s->lanes[i].name));
    return list;
}

static json_t *memory_json(const yd_backend_memory *m)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "total_bytes", (json_int_t)m->total, "free_bytes",
                     (json_int_t)m->free, "weights_bytes", (json_int_t)m->weights, "arena_bytes", (json_int_t)m->arena,
                     "scratch_bytes", (json_int_t)m->scratch);
}

static json_t *lane_json(const yd_lane *l)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", l->name, "state", state_word(l), "device",
                          l->about.device, "units", (json_int_t)l->units, "failures", (json_int_t)l->failed);
    if (!o) return NULL;
    if (l->problem.code) json_object_set_new(o, "problem", json_string(l->problem.detail));
    if (l->state == YD_LANE_DOWN) {
        const double wait_s = (double)(l->retry_us - yd_mono_us()) / 1e6;
        json_object_set_new(o, "retry_in_s", json_real(wait_s > 0 ? round(wait_s * 1000) / 1000 : 0));
    }
    if (l->has_memory) json_object_set_new(o, "memory", memory_json(&l->memory));
    return o;
}

json_t *yd_lanes_json(const yd_service *s)
{
    json_t *list = json_array();
    for (int i = 0; list && i < s->n_lanes; i++) json_array_append_new(list, lane_json(&s->lanes[i]));
    return list;
}

int yd_lanes_now(const yd_service *s, yd_lane_now *out)
{
    for (int i = 0; i < s->n_lanes; i++) {
        const yd_lane *l = &s->lanes[i];
        out[i] = (yd_lane_now){.name = l->name,
                               .up = l->state == YD_LANE_UP,
                               .runs = l->runs,
                               .units = l->units,
                               .failed = l->failed,
                               .busy_s = l->busy_s,
                               .has_memory = l->has_memory,
                               .total_bytes = l->memory.total,
                               .free_bytes = l->memory.free,
                               .weights_bytes = l->memory.weights,
                               .arena_bytes = l->memory.arena,
                               .scratch_bytes = l->memory.scratch};
    }
    return s->n_lanes;
}
