#include "grpc_connection.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

namespace bench {
namespace {

constexpr int32_t kWindow = 16 << 20;
constexpr size_t kPrefix = 5;

std::string Base64(std::string_view text) {
  static const std::string kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const size_t value = kAlphabet.find(c);
    if (value == std::string::npos) break;
    bits = (bits << 6) | static_cast<uint32_t>(value);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out.push_back(static_cast<char>(bits >> held));
  }
  return out;
}

std::string Prefixed(std::string_view message) {
  std::string out(kPrefix, '\0');
  for (int i = 0; i < 4; i++) out[static_cast<size_t>(4 - i)] = static_cast<char>(message.size() >> (8 * i));
  return out.append(message);
}

// grpc-message is percent-encoded.
std::string Readable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] != '%' || i + 2 >= text.size()) {
      out.push_back(text[i]);
      continue;
    }
    out.push_back(static_cast<char>(strtol(std::string(text.substr(i + 1, 2)).c_str(), nullptr, 16)));
    i += 2;
  }
  return out;
}

nghttp2_nv Pair(const char* name, std::string_view value) {
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name)),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), strlen(name), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

}  // namespace

void Die(const std::string& what) {
  fprintf(stderr, "%s (errno %d: %s)\n", what.c_str(), errno, strerror(errno));
  exit(1);
}

void Cannot(const std::string& why) {
  fprintf(stderr, "%s\n", why.c_str());
  exit(77);
}

uint64_t NowNanoseconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1000000000u + static_cast<uint64_t>(time.tv_nsec);
}

GrpcConnection::GrpcConnection(const std::string& path, Handlers handlers) : handlers_(std::move(handlers)) {
  fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) Die(path + " is too long");
  memcpy(address.sun_path, path.c_str(), path.size());
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) Die("connecting " + path);
  fcntl(fd_, F_SETFL, O_NONBLOCK);

  nghttp2_session_callbacks* callbacks;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
  nghttp2_session_client_new(&session_, callbacks, this);
  nghttp2_session_callbacks_del(callbacks);
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                             {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, 2);
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindow);
  Flush();
}

GrpcConnection::~GrpcConnection() {
  nghttp2_session_del(session_);
  close(fd_);
}

int32_t GrpcConnection::Call(const std::string& path, std::string_view message, bool last) {
  auto stream = std::make_unique<Stream>();
  stream->out = Prefixed(message);
  stream->last = last;
  const nghttp2_nv headers[] = {Pair(":method", "POST"),
                                Pair(":scheme", "http"),
                                Pair(":path", path),
                                Pair(":authority", "localhost"),
                                Pair("content-type", "application/grpc"),
                                Pair("te", "trailers")};
  nghttp2_data_provider provider = {{.ptr = stream.get()}, OnRead};
  const int32_t call = nghttp2_submit_request(session_, nullptr, headers, 6, &provider, stream.get());
  if (call < 0) Die(std::string("nghttp2_submit_request: ") + nghttp2_strerror(call));
  streams_[call] = std::move(stream);
  return call;
}

void GrpcConnection::Send(int32_t call, std::string_view message) {
  const auto found = streams_.find(call);
  if (found == streams_.end()) Die("a message for a call that has ended");
  Stream& stream = *found->second;
  if (stream.sent == stream.out.size()) {
    stream.out.clear();
    stream.sent = 0;
  }
  stream.out += Prefixed(message);
  nghttp2_session_resume_data(session_, call);
}

void GrpcConnection::Flush() {
  // From a handler: nghttp2 sends nothing inside its callbacks; Read() does when it is through.
  if (reading_) return;
  for (;;) {
    const uint8_t* data;
    const ssize_t length = nghttp2_session_mem_send(session_, &data);
    if (length < 0)
      Die(std::string("nghttp2_session_mem_send: ") + nghttp2_strerror(static_cast<int>(length)));
    if (length == 0) break;
    outgoing_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(length));
  }
  for (size_t at = 0; at < outgoing_.size();) {
    const ssize_t written = send(fd_, outgoing_.data() + at, outgoing_.size() - at, MSG_NOSIGNAL);
    if (written >= 0) {
      at += static_cast<size_t>(written);
    } else if (errno == EAGAIN) {
      pollfd wait = {fd_, POLLOUT, 0};
      if (poll(&wait, 1, 10000) != 1) Die("the server takes no more");
    } else {
      Die("writing to the gRPC socket");
    }
  }
  outgoing_.clear();
}

void GrpcConnection::Read() {
  static uint8_t buffer[256 << 10];
  const ssize_t length = recv(fd_, buffer, sizeof buffer, 0);
  if (length < 0 && errno == EAGAIN) return;
  if (length <= 0) Die("the server closed the gRPC connection");
  reading_ = true;
  const ssize_t taken = nghttp2_session_mem_recv(session_, buffer, static_cast<size_t>(length));
  reading_ = false;
  if (taken < 0) Die(std::string("nghttp2_session_mem_recv: ") + nghttp2_strerror(static_cast<int>(taken)));
  Flush();
}

ssize_t GrpcConnection::OnRead(nghttp2_session*, int32_t, uint8_t* buffer, size_t length, uint32_t* flags,
                               nghttp2_data_source* source, void*) {
  auto* stream = static_cast<Stream*>(source->ptr);
  const size_t rest = stream->out.size() - stream->sent;
  const size_t part = rest < length ? rest : length;
  memcpy(buffer, stream->out.data() + stream->sent, part);
  stream->sent += part;
  if (stream->sent == stream->out.size()) {
    if (stream->last)
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    else if (part == 0)
      return NGHTTP2_ERR_DEFERRED;
  }
  return static_cast<ssize_t>(part);
}

int GrpcConnection::OnData(nghttp2_session*, uint8_t, int32_t call, const uint8_t* data, size_t length,
                           void* self) {
  auto* connection = static_cast<GrpcConnection*>(self);
  const auto found = connection->streams_.find(call);
  if (found != connection->streams_.end()) connection->Take(call, found->second.get(), data, length);
  return 0;
}

void GrpcConnection::Take(int32_t call, Stream* stream, const uint8_t* data, size_t length) {
  stream->in.append(reinterpret_cast<const char*>(data), length);
  size_t at = 0;
  while (stream->in.size() - at >= kPrefix) {
    const auto* prefix = reinterpret_cast<const uint8_t*>(stream->in.data()) + at;
    const size_t body = static_cast<size_t>(prefix[1]) << 24 | static_cast<size_t>(prefix[2]) << 16 |
                        static_cast<size_t>(prefix[3]) << 8 | prefix[4];
    if (stream->in.size() - at - kPrefix < body) break;
    handlers_.message(call, std::string_view(stream->in).substr(at + kPrefix, body));
    at += kPrefix + body;
  }
  stream->in.erase(0, at);
}

int GrpcConnection::OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                             size_t name_length, const uint8_t* value, size_t value_length, uint8_t,
                             void* self) {
  auto* connection = static_cast<GrpcConnection*>(self);
  const auto found = connection->streams_.find(frame->hd.stream_id);
  if (found == connection->streams_.end()) return 0;
  Ending& ending = found->second->ending;
  const std::string_view key(reinterpret_cast<const char*>(name), name_length);
  const std::string text(reinterpret_cast<const char*>(value), value_length);
  if (key == "grpc-status") ending.status = atoi(text.c_str());
  if (key == "grpc-message") ending.message = Readable(text);
  if (key == "grpc-status-details-bin") ending.details = Base64(text);
  return 0;
}

int GrpcConnection::OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
  if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
  // The server has spoken its last, which ends a call whether or not we have.
  if (nghttp2_session_get_stream_local_close(session, frame->hd.stream_id) == 0)
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
  static_cast<GrpcConnection*>(self)->End(frame->hd.stream_id);
  return 0;
}

int GrpcConnection::OnClose(nghttp2_session*, int32_t call, uint32_t, void* self) {
  static_cast<GrpcConnection*>(self)->End(call);
  return 0;
}

void GrpcConnection::End(int32_t call) {
  const auto found = streams_.find(call);
  if (found == streams_.end()) return;
  // OnRead holds a pointer to the stream until nghttp2 has closed it.
  const bool open = nghttp2_session_get_stream_local_close(session_, call) == 0;
  const Ending ending = found->second->ending;
  if (open) retired_.push_back(std::move(found->second));
  streams_.erase(found);
  handlers_.ended(call, ending);
}

}  // namespace bench
