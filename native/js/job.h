// One blocking system call on its way: made on the JavaScript thread, run on a queue's thread, resolved on
// the JavaScript thread again. The work must capture plain data only.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "js/addon_data.h"
#include "js/convert.h"
#include "js/dispatcher.h"
#include "sys/serial_queue.h"

namespace aperture {

// A Result<T>, already resolved.
template <typename T>
Napi::Value Resolved(Napi::Env env, Result<T> result) {
  const Napi::Promise::Deferred deferred(env);
  deferred.Resolve(ResultToJs(env, result));
  return deferred.Promise();
}

template <typename T>
class Job final : public Task, public Completion {
 public:
  using Work = std::function<Result<T>()>;
  // Runs after the promise is resolved, on the JavaScript thread.
  using After = std::function<void()>;

  static Napi::Value Start(Napi::Env env, SerialQueue* queue, Work work, After after) {
    const std::shared_ptr<Dispatcher> dispatcher = AddonData::Of(env)->dispatcher;
    std::unique_ptr<Task> job(new Job(env, dispatcher, std::move(work), std::move(after)));
    Job* const self = static_cast<Job*>(job.get());
    const Napi::Value promise = self->deferred_.Promise();
    dispatcher->Begin();
    const int failed = queue->Push(job);
    if (failed != 0) {
      // No thread to be had: then the caller learns that, through the same door.
      dispatcher->Cancel();
      self->result_ = MakeError("pthread_create", failed, "");
      self->Complete(env);
    }
    return promise;
  }

  void Run(std::unique_ptr<Task> self) override {
    result_ = work_();
    static_cast<void>(self.release());
    dispatcher_->Post(std::unique_ptr<Completion>(this));
  }

  void Complete(Napi::Env env) override {
    deferred_.Resolve(ResultToJs(env, *result_));
    if (after_) after_();
  }

 private:
  Job(Napi::Env env, std::shared_ptr<Dispatcher> dispatcher, Work work, After after)
      : dispatcher_(std::move(dispatcher)),
        work_(std::move(work)),
        after_(std::move(after)),
        deferred_(env) {}

  const std::shared_ptr<Dispatcher> dispatcher_;
  const Work work_;
  const After after_;
  const Napi::Promise::Deferred deferred_;
  std::optional<Result<T>> result_;
};

}  // namespace aperture
