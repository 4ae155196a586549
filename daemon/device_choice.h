// Which devices the setting `device` names: its words, and what they come to on this machine.
//
//   auto       every GPU, or the CPU where none can be used
//   cpu        the CPU, with all its threads one device
//   cuda       every GPU; cuda:1, or several, cuda:0,cuda:2
//   fake       a device for tests of the service, which computes nothing; fake:4 are four of them
// Threads: any.
#ifndef YD_DAEMON_DEVICE_CHOICE_H
#define YD_DAEMON_DEVICE_CHOICE_H

#include "daemon/config.h"
#include "daemon/scheduler.h"

#define YD_DEVICE_NAME_MAX 24

typedef enum { YD_CHOOSE_AUTO, YD_CHOOSE_CPU, YD_CHOOSE_CUDA, YD_CHOOSE_FAKE } yd_device_kind;

typedef struct yd_device_choice {
    yd_device_kind kind;
    int n; // 1..YD_DEVICES_MAX; 0: as many as there are (auto, cuda), until yd_device_choice_find
    int number[YD_DEVICES_MAX];
} yd_device_choice;

// What the words say. Looks at nothing. YD_E_CONFIG naming "device" and what it accepts.
int yd_device_choice_parse(const char *text, yd_device_choice *out, yd_err *err);
// What it comes to here: kind is no more AUTO, n and number are filled in. why: "", or in one line why auto means the CPU.
// YD_E_CONFIG: there is no such device, or none that can be used, with the reason.
int yd_device_choice_find(yd_device_choice *c, char why[256], yd_err *err);
// "cpu", "cuda:1", "fake:0": the i-th of them.
void yd_device_choice_name(const yd_device_choice *c, int i, char name[YD_DEVICE_NAME_MAX]);
// Of a configuration that has been checked.
int yd_device_choice_is_fake(const yd_config *cfg);

#endif
