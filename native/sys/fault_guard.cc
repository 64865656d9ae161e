#include "sys/fault_guard.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace aperture {

namespace {

struct Guard {
  sigjmp_buf jump;
  uintptr_t low;
  uintptr_t high;
  volatile uintptr_t fault;
};

// initial-exec: the handler may run on a thread that has never touched this variable, and the default model
// of a shared object would call malloc() there.
__attribute__((tls_model("initial-exec"))) thread_local Guard* volatile current_guard = nullptr;

struct sigaction previous_bus;
struct sigaction previous_segv;
pthread_once_t once = PTHREAD_ONCE_INIT;
int install_error = 0;

void Chain(int signal, siginfo_t* info, void* context) {
  const struct sigaction& previous = signal == SIGBUS ? previous_bus : previous_segv;
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // The default action, with the right signal and the right core: when we return, the access faults again.
    // One that somebody sent with kill() does not come again, so it is sent once more. The kernel treats an
    // ignored synchronous fault like the default too (kernel/signal.c, force_sig_info_to_task).
    struct sigaction fallback = {};
    fallback.sa_handler = SIG_DFL;
    sigaction(signal, &fallback, nullptr);
    if (info->si_code <= 0) raise(signal);
  }
}

void OnFault(int signal, siginfo_t* info, void* context) {
  Guard* const guard = current_guard;
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  // si_code above 0: raised by the kernel for an access, not sent by a process.
  if (guard != nullptr && info->si_code > 0 && address >= guard->low && address < guard->high) {
    guard->fault = address;
    siglongjmp(guard->jump, 1);
  }
  Chain(signal, info, context);
}

void Install() {
  struct sigaction action = {};
  action.sa_sigaction = OnFault;
  sigfillset(&action.sa_mask);
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  if (sigaction(SIGBUS, &action, &previous_bus) < 0 || sigaction(SIGSEGV, &action, &previous_segv) < 0)
    install_error = errno;
}

template <typename T>
void Load(const volatile uint8_t* from, uint8_t* to) {
  const T value = *reinterpret_cast<const volatile T*>(from);
  memcpy(to, &value, sizeof(value));
}

template <typename T>
void Store(volatile uint8_t* to, const uint8_t* from) {
  T value;
  memcpy(&value, from, sizeof(value));
  *reinterpret_cast<volatile T*>(to) = value;
}

// The two loops hold nothing that would need a destructor: siglongjmp() leaves them in the middle.
void LoadLoop(const volatile uint8_t* from, uint8_t* to, size_t rest) {
  while (rest > 0) {
    const size_t width = AccessWidth(reinterpret_cast<uintptr_t>(from), rest);
    switch (width) {
      case 8:
        Load<uint64_t>(from, to);
        break;
      case 4:
        Load<uint32_t>(from, to);
        break;
      case 2:
        Load<uint16_t>(from, to);
        break;
      default:
        Load<uint8_t>(from, to);
        break;
    }
    from += width;
    to += width;
    rest -= width;
  }
}

void StoreLoop(volatile uint8_t* to, const uint8_t* from, size_t rest) {
  while (rest > 0) {
    const size_t width = AccessWidth(reinterpret_cast<uintptr_t>(to), rest);
    switch (width) {
      case 8:
        Store<uint64_t>(to, from);
        break;
      case 4:
        Store<uint32_t>(to, from);
        break;
      case 2:
        Store<uint16_t>(to, from);
        break;
      default:
        Store<uint8_t>(to, from);
        break;
    }
    to += width;
    from += width;
    rest -= width;
  }
}

template <typename Loop>
size_t Guarded(uintptr_t base, size_t length, Loop loop) {
  Guard guard;
  guard.low = base;
  guard.high = base + length;
  guard.fault = 0;
  // savemask: the handler runs with every signal blocked, and siglongjmp() must undo that.
  if (sigsetjmp(guard.jump, 1) == 0) {
    // The handler reads the guard behind the compiler's back: its fields must be there before the pointer is.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    current_guard = &guard;
    loop();
    current_guard = nullptr;
    return length;
  }
  current_guard = nullptr;
  return guard.fault - base;
}

}  // namespace

int InstallFaultHandlers() {
  pthread_once(&once, Install);
  return install_error;
}

size_t AccessWidth(uintptr_t address, size_t rest) {
  size_t width = 8;
  while (width > 1 && (address % width != 0 || width > rest)) width /= 2;
  return width;
}

size_t CopyFromMapping(const volatile uint8_t* base, uint8_t* out, size_t length) {
  return Guarded(reinterpret_cast<uintptr_t>(base), length, [=] { LoadLoop(base, out, length); });
}

size_t CopyToMapping(volatile uint8_t* base, const uint8_t* in, size_t length) {
  return Guarded(reinterpret_cast<uintptr_t>(base), length, [=] { StoreLoop(base, in, length); });
}

}  // namespace aperture
