// A FIFO of blocking tasks on a thread that it has only while there is work. VFIO calls can stay in the
// kernel for 0.1 to 256 s, and often cannot be interrupted: the thread is detached and shares its state by
// reference counting, so that nobody ever has to wait for it, process exit included.
#pragma once

#include <memory>
#include <string>

namespace aperture {

class Task {
 public:
  virtual ~Task() = default;
  // On the queue's thread. The task owns itself from here on: it may hand itself on to another thread.
  virtual void Run(std::unique_ptr<Task> self) = 0;
};

class SerialQueue {
 public:
  // name: of its thread; the kernel keeps its first 15 bytes.
  explicit SerialQueue(const std::string& name);
  // 0; or the errno of pthread_create, and then the task is still the caller's.
  int Push(std::unique_ptr<Task>& task);

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace aperture
