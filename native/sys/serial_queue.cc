#include "sys/serial_queue.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace aperture {

namespace {

// The deepest path is an ioctl with a 64 KiB answer on the heap.
constexpr size_t kStackBytes = 512 * 1024;

// Asynchronous signals belong to the main thread, whose event loop handles them. Synchronous faults must stay
// unblocked: the kernel kills the process at once when one arrives blocked, guard or not.
void BlockSignals(sigset_t* previous) {
  sigset_t all;
  sigfillset(&all);
  for (const int fault : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&all, fault);
  pthread_sigmask(SIG_BLOCK, &all, previous);
}

}  // namespace

SerialQueue::SerialQueue(const std::string& name) : state_(std::make_shared<State>()) {
  state_->name = name.substr(0, 15);
}

void* SerialQueue::Main(void* argument) {
  const std::unique_ptr<std::shared_ptr<State>> holder(static_cast<std::shared_ptr<State>*>(argument));
  const std::shared_ptr<State> state = *holder;
  pthread_setname_np(pthread_self(), state->name.c_str());
  for (;;) {
    std::unique_ptr<Task> task;
    {
      const std::lock_guard<std::mutex> lock(state->mutex);
      if (state->tasks.empty()) {
        state->running = false;
        return nullptr;
      }
      task = std::move(state->tasks.front());
      state->tasks.pop_front();
    }
    Task* const raw = task.get();
    raw->Run(std::move(task));
  }
}

int SerialQueue::Push(std::unique_ptr<Task>& task) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (!state_->running) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    // The new thread inherits the mask, so there is no moment in which it could take a signal.
    sigset_t previous;
    BlockSignals(&previous);
    auto holder = std::make_unique<std::shared_ptr<State>>(state_);
    pthread_t thread;
    const int failed = pthread_create(&thread, &attributes, &SerialQueue::Main, holder.get());
    pthread_sigmask(SIG_SETMASK, &previous, nullptr);
    pthread_attr_destroy(&attributes);
    if (failed != 0) return failed;
    static_cast<void>(holder.release());
    state_->running = true;
  }
  state_->tasks.push_back(std::move(task));
  return 0;
}

}  // namespace aperture
