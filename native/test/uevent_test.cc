// [real kernel] Uevents: what is not the kernel's is dropped, nothing blocks. That the kernel's own arrive is
// shown in the lab, where devices come and go.
#include "sys/uevent.h"

#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "check.h"

namespace aperture {
namespace {

uint32_t PortOf(int fd) {
  struct sockaddr_nl address = {};
  socklen_t size = sizeof(address);
  getsockname(fd, reinterpret_cast<struct sockaddr*>(&address), &size);
  return address.nl_pid;
}

// 0, or the errno: a kernel or container may forbid it.
int SendTo(int to, const char* text, size_t length) {
  const UniqueFd from(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT));
  struct sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_pid = PortOf(to);
  const ssize_t sent =
      sendto(from.get(), text, length, 0, reinterpret_cast<struct sockaddr*>(&address), sizeof(address));
  return sent < 0 ? errno : 0;
}

TEST(uevents_of_anybody_but_the_kernel_are_dropped) {
  const int before = check::CountDescriptors();
  {
    Result<UniqueFd> opened = OpenUevents();
    if (!opened.ok()) {
      // The one refusal that a container is entitled to.
      CHECK(opened.error().code == "FOREIGN_NAMESPACE");
      return;
    }
    const int fd = opened.value().get();
    Result<UeventBatch> nothing = ReceiveUevents(fd);
    CHECK(nothing.ok() && !nothing.value().lost);
    if (nothing.ok() && nothing.value().messages.empty()) CHECK(nothing.value().drained);
    const char text[] = "add@/devices/pci0000:00/0000:00:10.0\0SUBSYSTEM=pci";
    const int failed = SendTo(fd, text, sizeof(text));
    CHECK(failed == 0 || failed == EPERM || failed == ECONNREFUSED);
    if (failed == 0) {
      Result<UeventBatch> batch = ReceiveUevents(fd);
      if (CHECK(batch.ok())) CHECK(batch.value().foreign == 1 && batch.value().messages.empty());
    }
  }
  CHECK(check::CountDescriptors() == before);
}

TEST(uevents_in_a_flood_of_foreign_ones_end) {
  Result<UniqueFd> opened = OpenUevents();
  if (!opened.ok()) return;
  const int fd = opened.value().get();
  const int small = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  const std::string text(3000, 'x');
  // A unicast that finds no room answers the sender; the receiver is told of broadcasts only, so what is
  // checked here is that a flood ends and costs no message of ours.
  for (int i = 0; i < 100; i++) {
    const UniqueFd from(
        socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
    struct sockaddr_nl address = {};
    address.nl_family = AF_NETLINK;
    address.nl_pid = PortOf(fd);
    sendto(from.get(), text.data(), text.size(), MSG_DONTWAIT, reinterpret_cast<struct sockaddr*>(&address),
           sizeof(address));
  }
  for (;;) {
    Result<UeventBatch> batch = ReceiveUevents(fd);
    if (!CHECK(batch.ok())) return;
    CHECK(batch.value().messages.empty());
    CHECK(batch.value().foreign <= static_cast<size_t>(kUeventBatch));
    if (batch.value().foreign == 0) break;
  }
}

TEST(uevents_from_what_is_no_such_socket_are_an_error) {
  int pair[2];
  CHECK(pipe(pair) == 0);
  CHECK(!ReceiveUevents(pair[0]).ok());
  close(pair[0]);
  close(pair[1]);
}

}  // namespace
}  // namespace aperture
