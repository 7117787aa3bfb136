// A libcuda.so without a card, for tests: Taichi compiles for it, and what it hands over as PTX is kept; nothing runs
// unless ptx.py is to run it on the host. Only what Taichi 1.7 looks up is here. "Device" memory is the host's.
// STUB_CUDA_PTX: a folder for the PTX. STUB_CUDA_RUN: the command of ptx.py. STUB_CUDA_FIRST: a file for the first
// argument, an integer, of each kernel that is launched. STUB_CUDA_INIT, _VERSION, _CARDS: what a driver that does not
// fit would answer.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

static int allocate(void **p, size_t size) {
    // aligned as a card's memory is: Taichi leaves no room for more
    if (posix_memalign(p, 4096, size ? size : 1)) return 2;
    memset(*p, 0, size);
    return 0;
}

// which of the driver's calls succeed without doing anything
#define DOES_NOTHING(name) int name(void) { return 0; }
#define IS_NOT_THERE(name) int name(void) { return 801; }

int cuInit(unsigned flags) { return number("STUB_CUDA_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = number("STUB_CUDA_VERSION", 12040); return 0; }
int cuDeviceGetCount(int *count) { *count = number("STUB_CUDA_CARDS", 1); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "stub"); return 0; }
int cuGetErrorName(int error, const char **text) { *text = "STUB"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "the stub's error"; return 0; }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
        case 2: *value = 1024; break;     // threads per block
        case 10: *value = 32; break;      // threads per warp
        case 16: *value = 1; break;       // multiprocessors
        case 75: *value = 9; break;       // compute capability, major
        case 97: *value = 232448; break;  // shared memory per block, opt-in
        case 106: *value = 32; break;     // blocks per multiprocessor
        case 115: *value = 1; break;      // memory pools: without them a kernel, which does not run here, hands out memory
        default: *value = 0;
    }
    return 0;
}

int cuCtxCreate_v2(void **context, unsigned flags, int device) { *context = (void *)1; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1; return 0; }
int cuCtxGetCurrent(void **context) { *context = (void *)1; return 0; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)1; return 0; }
int cuEventCreate(void **event, unsigned flags) { *event = (void *)1; return 0; }
int cuEventElapsedTime(float *time, void *a, void *b) { *time = 0; return 0; }

int cuMemAlloc_v2(void **p, size_t size) { return allocate(p, size); }
int cuMemAllocAsync(void **p, size_t size, void *stream) { return allocate(p, size); }
int cuMemAllocManaged(void **p, size_t size, unsigned flags) { return allocate(p, size); }
int cuMemFree_v2(void *p) { free(p); return 0; }
int cuMemFreeAsync(void *p, void *stream) { free(p); return 0; }
int cuMemGetInfo_v2(size_t *left, size_t *all) { *left = *all = (size_t)64 << 30; return 0; }
int cuMemcpyHtoD_v2(void *to, const void *from, size_t size) { memcpy(to, from, size); return 0; }
int cuMemcpyDtoH_v2(void *to, const void *from, size_t size) { memcpy(to, from, size); return 0; }
int cuMemcpyDtoD_v2(void *to, const void *from, size_t size) { memcpy(to, from, size); return 0; }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, void *s) { memcpy(to, from, size); return 0; }
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, void *s) { memcpy(to, from, size); return 0; }
int cuMemsetD8_v2(void *p, unsigned char value, size_t size) { memset(p, value, size); return 0; }
int cuMemsetD32_v2(unsigned *p, unsigned value, size_t size) {
    for (size_t i = 0; i < size; i++) p[i] = value;
    return 0;
}
int cuPointerGetAttribute(unsigned *value, int attribute, void *p) { *value = 2; return 0; }
int cuFuncGetAttribute(int *value, int attribute, void *function) { *value = 0; return 0; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *value, void *function, int block, size_t shared) { *value = 1; return 0; }

int cuModuleLoadDataEx(void **module, const char *ptx, unsigned n, int *options, void **values) {
    static int count = 0;
    const char *folder = getenv("STUB_CUDA_PTX"), *translator = getenv("STUB_CUDA_RUN");
    char path[4096], library[4096], command[16384];
    *module = NULL;
    if (!folder) return 0;
    snprintf(path, sizeof path, "%s/%03d.ptx", folder, count);
    snprintf(library, sizeof library, "%s/%03d.so", folder, count++);
    FILE *file = fopen(path, "w");
    if (!file) return 301;
    fputs(ptx, file);
    if (fclose(file)) return 301;
    if (!translator) return 0;
    snprintf(command, sizeof command, "%s %s %s", translator, path, library);
    if (system(command)) return 218;
    *module = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    return *module ? 0 : 218;
}

typedef struct {
    char *name;
    void (*launch)(void **parameters, unsigned blocks, unsigned threads);
} Function;

int cuModuleGetFunction(void **function, void *module, const char *name) {
    char symbol[4096];
    Function *found = malloc(sizeof *found);
    snprintf(symbol, sizeof symbol, "launch_%s", name);
    *found = (Function){strdup(name), module ? dlsym(module, symbol) : NULL};
    *function = found;
    return !module || found->launch ? 0 : 500;
}

int cuLaunchKernel(Function *function, unsigned blocks, unsigned y, unsigned z, unsigned threads, unsigned v, unsigned w,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    const char *path = getenv("STUB_CUDA_FIRST");
    if (path && strstr(function->name, "_range_for")) {
        FILE *file = fopen(path, "a");
        if (!file) return 301;
        // a kernel's only parameter begins with where its arguments are
        fprintf(file, "%d\n", **(int **)parameters[0]);
        if (fclose(file)) return 301;
    }
    if (function->launch) function->launch(parameters, blocks, threads);
    return 0;
}

DOES_NOTHING(cuCtxSetCurrent)
DOES_NOTHING(cuCtxSetLimit)
DOES_NOTHING(cuDeviceGetDefaultMemPool)
DOES_NOTHING(cuMemPoolSetAttribute)
DOES_NOTHING(cuMemAdvise)
DOES_NOTHING(cuFuncSetAttribute)
DOES_NOTHING(cuStreamSynchronize)
DOES_NOTHING(cuEventDestroy)
DOES_NOTHING(cuEventRecord)
DOES_NOTHING(cuEventSynchronize)
IS_NOT_THERE(cuImportExternalMemory)
IS_NOT_THERE(cuExternalMemoryGetMappedBuffer)
IS_NOT_THERE(cuExternalMemoryGetMappedMipmappedArray)
IS_NOT_THERE(cuMipmappedArrayGetLevel)
IS_NOT_THERE(cuSurfObjectCreate)
IS_NOT_THERE(cuSignalExternalSemaphoresAsync)
IS_NOT_THERE(cuWaitExternalSemaphoresAsync)
IS_NOT_THERE(cuImportExternalSemaphore)
