#include "js/loop_poll.h"

#include <node_api.h>
#include <uv.h>

#include <string>
#include <utility>

namespace aperture {

struct LoopPoll::Handle {
  uv_poll_t poll;
  LoopPoll* owner;
  std::function<void()> callback;
  napi_async_cleanup_hook_handle hook = nullptr;

  void Close() {
    if (owner != nullptr) owner->handle_ = nullptr;
    owner = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&poll), [](uv_handle_t* handle) {
      Handle* self = static_cast<Handle*>(handle->data);
      // Node waits with the end of the environment until the hook is removed.
      if (self->hook != nullptr) napi_remove_async_cleanup_hook(self->hook);
      delete self;
    });
  }
};

LoopPoll::LoopPoll(Napi::Env env, int fd, std::function<void()> callback) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Napi::Error::New(env, "aperture: no event loop");
  auto* handle = new Handle{};
  handle->owner = this;
  handle->callback = std::move(callback);
  handle->poll.data = handle;
  int failed = uv_poll_init(loop, &handle->poll, fd);
  if (failed != 0) {
    delete handle;
    throw Napi::Error::New(env, std::string("aperture: cannot poll descriptor ") + std::to_string(fd) + ": " +
                                    uv_err_name(failed));
  }
  handle_ = handle;
  napi_add_async_cleanup_hook(
      env,
      [](napi_async_cleanup_hook_handle, void* data) {
        // Stop() may have closed the handle already; its close callback will remove the hook.
        Handle* self = static_cast<Handle*>(data);
        if (uv_is_closing(reinterpret_cast<uv_handle_t*>(&self->poll)) == 0) self->Close();
      },
      handle, &handle->hook);
  // UV_DISCONNECT is EPOLLRDHUP. libuv reports POLLERR and POLLHUP as readable.
  failed = uv_poll_start(&handle->poll, UV_READABLE | UV_DISCONNECT, [](uv_poll_t* poll, int, int) {
    Handle* self = static_cast<Handle*>(poll->data);
    if (self->owner != nullptr) self->callback();
  });
  if (failed != 0) {
    Stop();
    throw Napi::Error::New(env, std::string("aperture: cannot poll: ") + uv_err_name(failed));
  }
}

void LoopPoll::Ref(bool alive) {
  if (handle_ == nullptr) return;
  uv_handle_t* handle = reinterpret_cast<uv_handle_t*>(&handle_->poll);
  if (alive) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

void LoopPoll::Stop() {
  if (handle_ != nullptr) handle_->Close();
}

}  // namespace aperture
