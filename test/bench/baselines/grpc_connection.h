// One gRPC connection over a UNIX socket, non-blocking, on libnghttp2: the same for every server that is
// measured.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

// Prints what and errno, and ends the process with status 1: a load client whose world is broken measures
// nothing.
[[noreturn]] void Die(const std::string& what);
// Ends the process with status 77: what is asked for is not there, and nothing is wrong.
[[noreturn]] void Cannot(const std::string& why);
uint64_t NowNanoseconds();

struct Ending {
  int status = -1;      // grpc-status
  std::string message;  // grpc-message
  std::string details;  // grpc-status-details-bin, decoded
};

class GrpcConnection {
 public:
  struct Handlers {
    std::function<void(int32_t call, std::string_view message)> message;
    std::function<void(int32_t call, const Ending& ending)> ended;
  };

  GrpcConnection(const std::string& path, Handlers handlers);
  ~GrpcConnection();
  GrpcConnection(const GrpcConnection&) = delete;
  GrpcConnection& operator=(const GrpcConnection&) = delete;

  int fd() const { return fd_; }
  // Starts a call with its first message; last: none follows. Nothing leaves before Flush().
  int32_t Call(const std::string& path, std::string_view message, bool last);
  void Send(int32_t call, std::string_view message);
  void Flush();
  // Reads what is there and hands it to the handlers.
  void Read();

 private:
  struct Stream {
    std::string out;
    size_t sent = 0;
    bool last = false;
    std::string in;
    Ending ending;
  };

  static ssize_t OnRead(nghttp2_session*, int32_t, uint8_t* buffer, size_t length, uint32_t* flags,
                        nghttp2_data_source* source, void*);
  static int OnData(nghttp2_session*, uint8_t, int32_t call, const uint8_t* data, size_t length, void* self);
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_length,
                      const uint8_t* value, size_t value_length, uint8_t, void* self);
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* self);
  static int OnClose(nghttp2_session*, int32_t call, uint32_t, void* self);

  void End(int32_t call);
  void Take(int32_t call, Stream* stream, const uint8_t* data, size_t length);

  int fd_;
  Handlers handlers_;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, std::unique_ptr<Stream>> streams_;
  std::vector<std::unique_ptr<Stream>> retired_;
  std::string outgoing_;
  bool reading_ = false;
};

}  // namespace bench
