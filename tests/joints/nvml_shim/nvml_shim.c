/* A libnvidia-ml.so.1 whose devices are described in a text file (NVML_SHIM).
 *
 * It is loaded by the real nvidia-ml-py, so that the real calls, structures and error
 * paths are used. Awkward parts of the real thing that it keeps: a device without an
 * energy counter answers NOT_SUPPORTED (3); a device can be lost in mid-run (15); the
 * process queries want two calls, the first of which fails with INSUFFICIENT_SIZE (7).
 *
 * Lines: device UUID NAME ENERGY_MJ|-1 POWER_MW UTIL_PERCENT MEMORY MIG ERROR
 *        process DEVICE PID SM_PERCENT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX = 16, OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7 };
typedef struct { char uuid[96], name[64]; long long energy; unsigned power, util; unsigned long long memory; unsigned mig; int error; } device_t;
typedef struct { int device; unsigned pid, sm; } process_t;
static device_t devices[MAX];
static process_t processes[MAX];
static int n_devices, n_processes;

static void load(void) {
  FILE *f = fopen(getenv("NVML_SHIM"), "r");
  char line[512];
  n_devices = n_processes = 0;
  while (f && fgets(line, sizeof line, f)) {
    device_t *d = &devices[n_devices];
    process_t *p = &processes[n_processes];
    if (sscanf(line, "device %95s %63s %lld %u %u %llu %u %d", d->uuid, d->name, &d->energy, &d->power, &d->util, &d->memory, &d->mig, &d->error) == 8) n_devices++;
    else if (sscanf(line, "process %d %u %u", &p->device, &p->pid, &p->sm) == 3) n_processes++;
  }
  if (f) fclose(f);
}
static device_t *at(void *handle) { load(); return &devices[(long)handle - 1]; }
#define DEVICE device_t *d = at(handle); if (d->error) return d->error

int nvmlInitWithFlags(unsigned flags) { load(); return n_devices ? OK : 9; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == 15 ? "GPU is lost" : code == NOT_SUPPORTED ? "Not Supported" : code == 9 ? "Driver Not Loaded" : "Unknown Error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { load(); *count = n_devices; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)(long)(index + 1); return OK; }
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) { DEVICE; snprintf(text, size, "%s", d->uuid); return OK; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { DEVICE; snprintf(text, size, "%s", d->name); return OK; }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *pending) { DEVICE; *now = *pending = d->mig; return OK; }
int nvmlDeviceGetPowerUsage(void *handle, unsigned *mw) { DEVICE; *mw = d->power; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *mj) { DEVICE; if (d->energy < 0) return NOT_SUPPORTED; *mj = d->energy; return OK; }
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) { DEVICE; rates[0] = d->util; rates[1] = 0; return OK; }
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory) { DEVICE; memory[0] = 80ULL << 30; memory[2] = d->memory; memory[1] = memory[0] - d->memory; return OK; }

typedef struct { unsigned pid; unsigned long long memory; unsigned gi, ci; } running_t;
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, running_t *out) {
  DEVICE;
  unsigned room = *count, n = 0;
  for (int i = 0; i < n_processes; i++)
    if (processes[i].device == (long)handle - 1) { if (out && n < room) { memset(&out[n], 0, sizeof *out); out[n].pid = processes[i].pid; } n++; }
  *count = n;
  return n > room ? SMALL : OK;
}
typedef struct { unsigned pid; unsigned long long stamp; unsigned sm, mem, enc, dec; } sample_t;
int nvmlDeviceGetProcessUtilization(void *handle, sample_t *out, unsigned *count, unsigned long long since) {
  DEVICE;
  unsigned n = 0;
  for (int i = 0; i < n_processes; i++)
    if (processes[i].device == (long)handle - 1 && processes[i].sm) { if (out) { memset(&out[n], 0, sizeof *out); out[n].pid = processes[i].pid; out[n].stamp = since + 1; out[n].sm = processes[i].sm; } n++; }
  *count = n;
  return out ? OK : n ? SMALL : NOT_FOUND;
}
