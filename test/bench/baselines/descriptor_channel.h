// The client's end of a descriptor channel (docs/PROTOCOL.md), and of the C++ peer's token socket, which is
// plainer: 16 bytes there, a message with descriptors back.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace bench {

using Id = std::array<uint8_t, 16>;

struct Arrival {
  bool offer = false;
  Id lease = {};
  int descriptors = 0;
};

class DescriptorChannel {
 public:
  // attach: says ATTACH and waits for ATTACHED.
  DescriptorChannel(const std::string& path, bool attach);
  ~DescriptorChannel();
  DescriptorChannel(const DescriptorChannel&) = delete;
  DescriptorChannel& operator=(const DescriptorChannel&) = delete;

  int fd() const { return fd_; }
  uint64_t number() const { return number_; }
  // False when nothing is there. Descriptors are counted and closed. Ends the process on GOODBYE and REFUSED.
  bool Receive(Arrival* arrival);
  void Acknowledge(const Id& lease, uint32_t count);
  // SHOW of a ticket.
  void Show(const Id& ticket);
  // 16 bytes without a frame around them.
  void SendToken(const Id& token);

 private:
  void Send(const void* bytes, size_t length);

  int fd_;
  const bool framed_;
  uint64_t number_ = 0;
};

}  // namespace bench
