// Which files become resident attention networks: those of a list, and those of a folder that turn out to be some. See attention_nets.h.
#include "core/attention_nets_internal.h"

#include "core/mem.h"
#include "core/tensors.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What torch and safetensors files are called; what they are is told by their content.
static const char *const endings[] = {".safetensors", ".pth", ".pt", ".bin", ".ckpt"};

int yd_attention_file(const char *path)
{
    yd_safetensors *st;
    yd_attention_net_kind kind;
    if (yd_tensors_open(path, &st, NULL)) return 0;
    const int is = yd_attention_net_recognise(st, &kind);
    yd_st_close(st);
    return is;
}

// ---- one file ------------------------------------------------------------------------------------------------------

static int is_taken(const yd_attention_nets *n, const char *name)
{
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->entry[i].name, name) == 0) return 1;
    return 0;
}

// Would `wanted` mean this network or one of its variants?
static int is_wanted(const char *wanted, const char *name)
{
    const size_t n = strlen(name);
    return !wanted || (strncmp(wanted, name, n) == 0 && (!wanted[n] || wanted[n] == ':' || wanted[n] == '-'));
}

static int add(yd_attention_nets *n, const char *name, const char *path, yd_attention_net *net, yd_err *err)
{
    if (is_taken(n, name))
        return yd_fail_field(err, YD_E_CONFIG, "attention_nets", "NAME=PATH, with another name for each",
                             "%s: there is an attention network '%s' already", path, name);
    if (n->count == YD_ATTENTION_NETS_MAX)
        return yd_fail_field(err, YD_E_CONFIG, "attention_nets", "", "%s: there are %d attention networks already", path,
                             YD_ATTENTION_NETS_MAX);
    yd_attention_entry *e = &n->entry[n->count];
    e->path = yd_strdup(path);
    if (!e->path || pthread_mutex_init(&e->lock, NULL)) {
        yd_free(e->path);
        return yd_fail(err, YD_E_NOMEM, "no memory for an attention network");
    }
    snprintf(e->name, sizeof e->name, "%s", name);
    e->net = net;
    e->info = *yd_attention_net_info_of(net);
    atomic_init(&e->bytes, e->info.bytes);
    n->count++;
    return 0;
}

// name NULL: the network's own.
static int load(yd_attention_nets *n, const yd_attention_load *from, const char *name, const char *path, yd_err *err)
{
    yd_attention_net *net = NULL;
    if (name && !is_wanted(from->wanted, name)) return 0;
    int rc = yd_attention_net_open(path, &from->net, &net, err);
    if (rc) return rc;
    if (!name) name = yd_attention_net_info_of(net)->name;
    const int wanted = is_wanted(from->wanted, name);
    if (wanted) rc = add(n, name, path, net, err);
    if (rc || !wanted) yd_attention_net_close(net);
    return rc;
}

// ---- a list --------------------------------------------------------------------------------------------------------

static int check_name(const char *name, yd_err *err)
{
    int ok = strchr(name, '-') != NULL && strlen(name) < YD_ATTENTION_NAME_MAX / 2;
    for (const char *c = name; *c && ok; c++) ok = isalnum((unsigned char)*c) || strchr(".-_", *c);
    if (ok) return 0;
    return yd_fail_field(err, YD_E_CONFIG, "attention_nets",
                         "PATH or NAME=PATH; NAME of letters, digits, '.', '_' and at least one '-', up to 23 bytes",
                         "'%.64s' cannot be the name of an attention network", name);
}

// item is changed.
static int load_item(yd_attention_nets *n, const yd_attention_load *from, char *item, yd_err *err)
{
    char *equal = strchr(item, '='), *slash = strchr(item, '/');
    if (!equal || (slash && slash < equal)) return load(n, from, NULL, item, err);
    *equal = '\0';
    const int rc = check_name(item, err);
    return rc ? rc : load(n, from, item, equal + 1, err);
}

static int load_list(yd_attention_nets *n, const yd_attention_load *from, yd_err *err)
{
    char item[1024];
    int rc = 0;
    for (const char *at = from->list; at && *at && !rc;) {
        const size_t len = strcspn(at, ",");
        if (len == 0 || len >= sizeof item)
            return yd_fail_field(err, YD_E_CONFIG, "attention_nets", "PATH or NAME=PATH, separated by commas", "an entry of the list is %s",
                                 len ? "too long" : "empty");
        memcpy(item, at, len);
        item[len] = '\0';
        rc = load_item(n, from, item, err);
        at += len;
        if (*at) at++;
    }
    return rc;
}

// ---- a folder ------------------------------------------------------------------------------------------------------

static int may_be_model(const struct dirent *e)
{
    const size_t n = strlen(e->d_name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings && e->d_name[0] != '.'; i++) {
        const size_t k = strlen(endings[i]);
        if (n > k && strcmp(e->d_name + n - k, endings[i]) == 0) return 1;
    }
    return 0;
}

static int is_listed(const yd_attention_nets *n, const char *path)
{
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->entry[i].path, path) == 0) return 1;
    return 0;
}

static int load_folder(yd_attention_nets *n, const yd_attention_load *from, const char *folder, yd_err *err)
{
    struct dirent **file = NULL;
    const int count = scandir(folder, &file, may_be_model, alphasort);
    char path[1024];
    int rc = 0;
    for (int i = 0; i < count; i++) {
        yd_err why = {0};
        const int fits = (size_t)snprintf(path, sizeof path, "%s/%s", folder, file[i]->d_name) < sizeof path;
        free(file[i]);
        if (rc || !fits || is_listed(n, path) || !yd_attention_file(path)) continue;
        const int failed = load(n, from, NULL, path, &why);
        if (failed == YD_E_NOMEM)
            rc = failed;
        else if (failed && from->passed)
            from->passed(from->arg, path, &why);
        if (rc && err) *err = why;
    }
    free(file);
    return rc;
}

void yd_attention_nets_later(yd_attention_nets *n, const yd_attention_load *from)
{
    n->later = from;
}

int yd_attention_nets_load(yd_attention_nets *n, const yd_attention_load *from, yd_err *err)
{
    int rc = load_list(n, from, err);
    for (const char *at = from->folder; !rc && at && *(at += strspn(at, ", "));) {
        char folder[1024];
        size_t len = strcspn(at, ",");
        if (len >= sizeof folder) return rc;
        memcpy(folder, at, len);
        at += len;
        while (len > 0 && folder[len - 1] == ' ') len--;
        folder[len] = '\0';
        rc = load_folder(n, from, folder, err);
    }
    return rc;
}
