// What the kernel says of its devices as it happens: the netlink family NETLINK_KOBJECT_UEVENT, group 1
// (group 2 is udevd's). Anybody with CAP_NET_ADMIN may send to the socket (net/netlink/af_netlink.c,
// NL_CFG_F_NONROOT_RECV lets everybody receive), so each message's sender is looked at.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace aperture {

// lib/kobject_uevent.c: `ACTION@DEVPATH`, then at most UEVENT_BUFFER_SIZE (2048) bytes of KEY=VALUE, each
// ended by a NUL.
constexpr size_t kUeventBytes = 4096;
// Messages that one call looks at, wanted or not.
constexpr int kUeventBatch = 64;

struct UeventBatch {
  std::vector<std::vector<uint8_t>> messages;
  // The kernel had no room for some (ENOBUFS), or one was longer than a message can be: what is known may be
  // old.
  bool lost = false;
  // Nothing was left to read. After a loss the kernel drops everything until a reader gets here, and tells of
  // the first loss alone (net/netlink/af_netlink.c netlink_overrun, NETLINK_S_CONGESTED).
  bool drained = false;
  // From somebody else than the kernel.
  size_t foreign = 0;
};

// A non-blocking socket. Code FOREIGN_NAMESPACE: this network namespace belongs to a user namespace that the
// kernel sends no events to (lib/kobject_uevent.c uevent_net_init).
Result<UniqueFd> OpenUevents();

// What has arrived, at most kUeventBatch messages; nothing is no error.
Result<UeventBatch> ReceiveUevents(int fd);

}  // namespace aperture
