/* A load that may meet a device in reset: true and the value, or false instead of SIGBUS. One handler for the
 * process, one guard a thread. Poisoned memory (BUS_MCEERR_AR) arrives the same way. A VMM that has a SIGBUS
 * handler of its own calls guarded_fault() first in it. Include it before everything else, or compile with
 * -D_DEFAULT_SOURCE. */
#define _DEFAULT_SOURCE 1
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static _Thread_local sigjmp_buf* volatile guard;

static void guarded_fault(int signal_number, siginfo_t* info, void* context) {
  (void)context;
  if (guard != NULL && info->si_code > 0)
    siglongjmp(*guard, signal_number); /* si_code above 0: an access, not kill() */
  signal(signal_number, SIG_DFL); /* not ours: the access faults again, and ends the process as it should */
}

static void guarded_install(void) {
  struct sigaction action = {.sa_sigaction = guarded_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(SIGBUS, &action, NULL);
}

static bool guarded_load(const volatile uint32_t* at, uint32_t* value) {
  sigjmp_buf here;
  if (sigsetjmp(here, 1) != 0) {
    guard = NULL;
    return false;
  }
  guard = &here;
  *value = *at;
  guard = NULL;
  return true;
}
