// Messages with descriptors, both ways. The receiving half follows two rules that other implementations
// learned from CVEs: the control buffer is exactly as large as what is wanted, and whatever arrived is owned
// before anything else is looked at, so that no error path can leave a descriptor behind.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace aperture {

// Everything that control messages can bring.
struct ControlData {
  bool truncated = false;
  bool has_credentials = false;
  struct ucred credentials = {};
  // SCM_PIDFD; not valid when there was none, and when the kernel could not make it.
  UniqueFd pidfd;
  std::vector<UniqueFd> descriptors;
};

// Takes every descriptor in the control data of a message that recvmsg() has filled.
void TakeControl(struct msghdr* message, ControlData* out);

struct ReceivedFrame {
  std::vector<uint8_t> bytes;  // empty at end of file
  std::vector<UniqueFd> descriptors;
  bool truncated = false;  // descriptors were lost; those that had come are closed
};

// 0, or errno. `descriptors` stay the caller's: the kernel takes references of its own before sendmsg()
// returns.
int SendFrame(int fd, const uint8_t* frame, size_t length, const int* descriptors, size_t count);
Result<ReceivedFrame> ReceiveFrame(int fd, size_t max_frame, size_t max_descriptors);

}  // namespace aperture
