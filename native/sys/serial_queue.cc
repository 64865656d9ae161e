#include "sys/serial_queue.h"

#include <pthread.h>

#include <deque>
#include <mutex>
#include <utility>

#include "sys/workers.h"

namespace aperture {

class SerialQueue::State final : public Work {
 public:
  explicit State(const std::string& name) : name_(name.substr(0, 15)) {}

  int Push(const std::shared_ptr<State>& self, std::unique_ptr<Task>& task) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!running_) {
      // The thread that gets it waits for the mutex first.
      const int failed = RunOnWorker(self);
      if (failed != 0) return failed;
      running_ = true;
    }
    tasks_.push_back(std::move(task));
    return 0;
  }

  void Run() override {
    pthread_setname_np(pthread_self(), name_.c_str());
    for (;;) {
      std::unique_ptr<Task> task;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (tasks_.empty()) {
          running_ = false;
          return;
        }
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      Task* const raw = task.get();
      raw->Run(std::move(task));
    }
  }

 private:
  const std::string name_;
  std::mutex mutex_;
  std::deque<std::unique_ptr<Task>> tasks_;
  bool running_ = false;
};

SerialQueue::SerialQueue(const std::string& name) : state_(std::make_shared<State>(name)) {}

int SerialQueue::Push(std::unique_ptr<Task>& task) {
  return state_->Push(state_, task);
}

}  // namespace aperture
