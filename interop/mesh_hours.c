/* Has bluetooth-meshd's 96 hours of an IV Update in progress (MshPRT 3.11.5) last 40 seconds. All else about the
   update is meshd's own. Preloaded by interop/mesh_iv_update.py. */
#define _GNU_SOURCE
#include <dlfcn.h>

#define HOURS_96 (96u * 60 * 60)
#define SECONDS 40u

typedef void *create(unsigned int seconds, void *callback, void *user_data, void *destroy);

void *l_timeout_create(unsigned int seconds, void *callback, void *user_data, void *destroy) {
    create *real = (create *)dlsym(RTLD_NEXT, "l_timeout_create");
    return real(seconds == HOURS_96 ? SECONDS : seconds, callback, user_data, destroy);
}
