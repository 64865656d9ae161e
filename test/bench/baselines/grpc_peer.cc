// What a systems team would write instead: a C++ gRPC callback server for the lease, and a thread with an
// epoll set for the descriptors, tied together by a random token that the answer carries and the client
// shows. It locks the device, opens its descriptors fresh and closes them once they are sent, as a broker
// must; policy, liveness, acknowledgement, proof of release, reset, metrics and log are left out. The leases
// of a token connection end with it. Usage: grpc_peer SOCKET TOKEN_SOCKET DEVICES

#include <errno.h>
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "peer.grpc.pb.h"

namespace {

constexpr int kDescriptors = 2;
constexpr int kRegions = 6;
constexpr uint64_t kRegionBytes = 1 << 20;

[[noreturn]] void Die(const char* what) {
  perror(what);
  exit(1);
}

struct Device {
  std::string path[kDescriptors];
  bool leased = false;
};

struct Pending {
  std::string lease;
  int descriptors[kDescriptors];
};

// What both threads share, under one mutex.
class Table {
 public:
  explicit Table(int devices) {
    for (int i = 0; i < devices; i++) {
      char address[16];
      snprintf(address, sizeof address, "%04x:%02x:%02x.%x", 0x1000 + (i >> 16), (i >> 8) & 0xff,
               (i >> 3) & 0x1f, i & 7);
      Device& device = devices_[address];
      for (std::string& path : device.path) {
        const int fd = memfd_create("region", MFD_CLOEXEC);
        if (fd < 0) Die("memfd_create");
        path = "/proc/self/fd/" + std::to_string(fd);
      }
    }
  }

  // Locks the device and opens it. False: unknown or leased.
  bool Acquire(const std::string& address, const std::string& lease, const std::string& token) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = devices_.find(address);
    if (found == devices_.end() || found->second.leased) return false;
    Pending pending = {lease, {}};
    for (int i = 0; i < kDescriptors; i++) {
      pending.descriptors[i] = open(found->second.path[i].c_str(), O_RDWR | O_CLOEXEC);
      if (pending.descriptors[i] < 0) Die("open");
    }
    found->second.leased = true;
    leases_[lease] = address;
    pending_.emplace(token, pending);
    return true;
  }

  bool Release(const std::string& lease) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = leases_.find(lease);
    if (found == leases_.end()) return false;
    devices_[found->second].leased = false;
    leases_.erase(found);
    return true;
  }

  bool Take(const std::string& token, Pending* pending) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = pending_.find(token);
    if (found == pending_.end()) return false;
    *pending = found->second;
    pending_.erase(found);
    return true;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, Device> devices_;
  std::unordered_map<std::string, std::string> leases_;
  std::unordered_map<std::string, Pending> pending_;
};

std::string RandomUuid() {
  uint8_t bytes[16];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) Die("getrandom");
  bytes[6] = static_cast<uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<uint8_t>((bytes[8] & 0x3f) | 0x80);
  char text[37];
  snprintf(text, sizeof text, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
           bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9],
           bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]);
  return text;
}

class Service final : public aperture::v1::LeaseService::CallbackService {
 public:
  explicit Service(Table* table) : table_(table) {}

  grpc::ServerUnaryReactor* AcquireLease(grpc::CallbackServerContext* context,
                                         const aperture::v1::AcquireLeaseRequest* request,
                                         aperture::v1::AcquireLeaseResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (request->devices_size() != 1) {
      reactor->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "one device"));
      return reactor;
    }
    const std::string& address = request->devices(0).address();
    std::string token(16, '\0');
    if (getrandom(token.data(), token.size(), 0) != 16) Die("getrandom");
    const std::string lease = RandomUuid();
    if (!table_->Acquire(address, lease, token)) {
      reactor->Finish(grpc::Status(grpc::StatusCode::ABORTED, "unknown or leased"));
      return reactor;
    }
    Describe(address, lease, response->mutable_lease());
    response->set_ticket(token);
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerUnaryReactor* ReleaseLease(grpc::CallbackServerContext* context,
                                         const aperture::v1::ReleaseLeaseRequest* request,
                                         aperture::v1::ReleaseLeaseResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    response->mutable_lease()->set_id(request->lease_id());
    reactor->Finish(table_->Release(request->lease_id())
                        ? grpc::Status::OK
                        : grpc::Status(grpc::StatusCode::NOT_FOUND, "no such lease"));
    return reactor;
  }

 private:
  static void Describe(const std::string& address, const std::string& id, aperture::v1::Lease* lease) {
    lease->set_id(id);
    lease->set_kind(1);
    lease->set_mode(1);
    lease->set_state(2);
    lease->set_backend(3);
    lease->set_holder_pid(static_cast<uint32_t>(getpid()));
    aperture::v1::LeasedDevice* device = lease->add_devices();
    device->set_address(address);
    for (uint32_t i = 0; i < kRegions; i++) {
      aperture::v1::Region* region = device->add_regions();
      region->set_index(i);
      region->set_kind(1);
      region->set_bar(i);
      region->set_size(kRegionBytes);
      region->set_backed_size(kRegionBytes);
      aperture::v1::Area* area = region->add_areas();
      area->set_size(kRegionBytes);
      region->set_memory_type(3);
      region->set_memory_type_source("vfio-pci maps every region uncached");
      region->set_readable(true);
      region->set_writable(true);
      region->set_mappable(true);
    }
    for (uint32_t i = 0; i < kDescriptors; i++) {
      aperture::v1::Descriptor* descriptor = lease->add_descriptors();
      descriptor->set_kind(6);
      descriptor->set_scope(2);
      descriptor->set_address(address);
      descriptor->set_region(i);
      descriptor->set_size(kRegionBytes);
    }
  }

  Table* const table_;
};

void SendDescriptors(int connection, const Pending& pending) {
  char frame[300] = {};
  iovec part = {frame, sizeof frame};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof pending.descriptors)] = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof pending.descriptors);
  memcpy(CMSG_DATA(header), pending.descriptors, sizeof pending.descriptors);
  if (sendmsg(connection, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EPIPE && errno != ECONNRESET)
    Die("sendmsg");
  for (const int fd : pending.descriptors) close(fd);
}

int ListenAt(const char* path) {
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 || listen(listener, 512) < 0)
    Die("listen");
  return listener;
}

void ServeTokens(int listener, Table* table) {
  const int set = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = listener;
  epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
  std::unordered_map<int, std::vector<std::string>> leases;
  for (;;) {
    epoll_event ready[64];
    const int events = epoll_wait(set, ready, 64, -1);
    for (int i = 0; i < events; i++) {
      const int fd = ready[i].data.fd;
      if (fd == listener) {
        event.data.fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (event.data.fd >= 0) epoll_ctl(set, EPOLL_CTL_ADD, event.data.fd, &event);
        continue;
      }
      char token[16];
      const ssize_t length = recv(fd, token, sizeof token, 0);
      Pending pending;
      if (length == sizeof token && table->Take(std::string(token, sizeof token), &pending)) {
        SendDescriptors(fd, pending);
        leases[fd].push_back(pending.lease);
      } else if (length >= 0 || errno != EAGAIN) {
        for (const std::string& lease : leases[fd]) table->Release(lease);
        leases.erase(fd);
        close(fd);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: grpc_peer SOCKET TOKEN_SOCKET DEVICES\n");
    return 2;
  }
  Table table(atoi(argv[3]));
  const int listener = ListenAt(argv[2]);
  std::thread(ServeTokens, listener, &table).detach();
  Service service(&table);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(std::string("unix:") + argv[1], grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server) return 1;
  printf("READY\n");
  fflush(stdout);
  server->Wait();
}
