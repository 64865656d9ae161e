// A uv_poll_t with an owner. libuv frees nothing at once: a handle lives on until its close callback, and an
// environment may end (a worker that is terminated) while its handles are open, which libuv answers with an
// abort.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

namespace aperture {

class LoopPoll {
 public:
  // Calls back on the loop whenever fd is readable or hung up. Throws when libuv refuses the descriptor. fd
  // must stay open until Stop() and may be closed right after it.
  LoopPoll(Napi::Env env, int fd, std::function<void()> callback);
  ~LoopPoll() { Stop(); }
  LoopPoll(const LoopPoll&) = delete;
  LoopPoll& operator=(const LoopPoll&) = delete;

  void Ref(bool alive);
  void Stop();

 private:
  struct Handle;
  Handle* handle_ = nullptr;
};

}  // namespace aperture
