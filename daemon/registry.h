// Which models there are, which of them are resident, and in what state each is: bookkeeping without files, threads or a device.
//
// A record is a model by its name: a file that a scan has found. A resident is one version of it, by the file's checksum, on the device. Whoever
// wants to compute with a model holds the resident, from a job's acceptance to its end: what becomes of the file meanwhile, or which version
// new jobs get, does not matter to it. States and transitions: registry.c.
// Threads: one at a time. Read next: loading.c, which moves records from state to state.
#ifndef YD_DAEMON_REGISTRY_H
#define YD_DAEMON_REGISTRY_H

#include "core/engine.h"
#include "daemon/models.h"

#define YD_SEATS       16 // residents at a time
#define YD_ENGINES_MAX 2  // of a resident: feature maps in f32 and in bf16

typedef enum { YD_MODEL_AVAILABLE, YD_MODEL_LOADING, YD_MODEL_RESIDENT, YD_MODEL_DRAINING, YD_MODEL_FAILED } yd_model_state;

typedef struct yd_resident yd_resident;
typedef struct yd_model_record yd_model_record;

struct yd_resident {
    yd_model_record *record;
    yd_resident *next;   // of the record's retired ones
    yd_model_file file;  // as it was when this version was read
    yd_model_config cfg; // as it is run; its map_net is `map`
    yd_map_net *map;     // or NULL
    char checksum[72];
    size_t params;
    int seat; // 0..YD_SEATS-1: engine k of it is number seat * YD_ENGINES_MAX + k of every device
    unsigned on, refused; // bits of devices that have it, and of those that were opened and could not take it
    int n_engines;
    yd_engine_info engine[YD_ENGINES_MAX]; // the first serves who asks for none
    size_t bytes;    // what it takes of a device; while it is coming what is expected of it
    size_t users;    // who holds it
    int leaving;     // the device is giving its memory back
};

struct yd_model_record {
    yd_model_file file; // as last seen
    int gone;           // the last scan did not find it
    int wanted;         // it is to be loaded, in the order of these numbers; 0: it is not
    int loading;        // that is under way
    int dropped;        // what is being loaded is not wanted any more
    yd_resident *coming, *current, *retired; // on its way to the device; serving new jobs; serving old ones only, or leaving
    yd_err problem; // why the last load came to nothing; code 0: it did not
    int at_start;   // the service is ready when it has been loaded
    int loads[2];   // that failed, that succeeded
};

typedef struct yd_registry {
    yd_model_record *record[YD_MODELS_MAX]; // by name
    int n;
    size_t budget;  // bytes that residents may take together
    int lenient;    // the budget was only guessed: with nothing resident one model is let in whatever it takes
    unsigned seats; // bits of those that are taken
    int wants;      // so many so far
    char default_name[YD_MODEL_NAME_MAX];
} yd_registry;

void yd_registry_init(yd_registry *r, size_t budget, int lenient);
// Everything must be let go of; what was resident is forgotten with it.
void yd_registry_clear(yd_registry *r);

// What a scan has found, at most YD_MODELS_MAX, in the order of names: new names become records, those that are missing are forgotten unless they
// are resident or being loaded. YD_E_NOMEM: what could be noted was.
int yd_registry_see(yd_registry *r, const yd_model_file *files, int n, yd_err *err);

yd_model_state yd_model_record_state(const yd_model_record *m);
const char *yd_model_state_name(yd_model_state s);
// Jobs and submissions that hold any version of it.
size_t yd_model_record_users(const yd_model_record *m);
// Bytes of all versions of it, and of all residents.
size_t yd_model_record_bytes(const yd_model_record *m);
size_t yd_registry_bytes(const yd_registry *r);

// By its name, or by the name in its config if that is one model's. "": the default. YD_E_SETTING naming "model" and the names there are.
int yd_registry_find(const yd_registry *r, const char *name, yd_model_record **out, yd_err *err);
// All names, or those of residents that take jobs, separated by ", "; cut where there is no more room.
void yd_registry_names(const yd_registry *r, int resident, char *dst, size_t cap);

// ---- loading -------------------------------------------------------------------------------------------------------

// It is to be loaded, or read again. What was meant to be dropped on arrival is wanted again.
void yd_registry_want(yd_registry *r, yd_model_record *m);
// The record that is to be loaded next: it is LOADING from now on, one at a time. NULL: none is, or one is under way.
yd_model_record *yd_registry_begin(yd_registry *r);
// The file was read. 0: *out is to be compiled at its seat, it takes over the model's map net. 1: this version is resident already, and takes new
// jobs again if it did not. YD_E_MODEL_ROOM naming the budget, YD_E_NOMEM.
int yd_registry_reserve(yd_registry *r, yd_model_record *m, const yd_model_file *file, yd_model *model, yd_resident **out, yd_err *err);
// It is compiled, its engines are filled in: it takes new jobs from now on, the version before serves out its own. YD_E_MODEL_ROOM: it takes more
// than there is. A resident that is not to be kept, so or because it was dropped, is retired.
int yd_registry_commit(yd_registry *r, yd_resident *v, yd_err *err);
// The load came to nothing; a version that was resident before stays. What was reserved is given back.
void yd_registry_refuse(yd_registry *r, yd_model_record *m, const yd_err *why);

// ---- use and unloading ---------------------------------------------------------------------------------------------

yd_resident *yd_resident_hold(yd_resident *v); // NULL is fine
void yd_resident_release(yd_resident *v);      // NULL is fine; then look for those that leave
// It takes no new jobs from now on. What is being loaded is dropped on arrival.
void yd_registry_unload(yd_model_record *m);
// A retired resident that nobody holds: the device is to give back its memory. Each is told once. NULL: none.
yd_resident *yd_registry_leaving(yd_registry *r);
// The device has given it back: it is freed.
void yd_registry_left(yd_registry *r, yd_resident *v);

#endif
