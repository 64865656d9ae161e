// The reader of the watch cases.
//   --mode snapshot  opens one stream and reads it to its SYNCED event, or to its end: bytes, devices,
//   seconds. --record FILE keeps the messages, 4 bytes of length before each.
//   --mode change    opens CONNECTIONS streams, each on a connection of its own, and waits for the first
//   message of each (for SYNCED with --lease). Then, COUNT times:
//                    causes one change, and takes the time until the last stream has heard of it. --lease:
//                    the change is a lease of one device, acknowledged and released again; else one call of
//                    /bench.Bare/Change. --record keeps the first message that came of a change.
// Prints one line of JSON; ends with status 1 when anything is wrong.

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "descriptor_channel.h"
#include "grpc_connection.h"
#include "wire.h"

namespace bench {
namespace {

struct Options {
  std::string mode, socket, channel, path, record, address;
  int connections = 1, count = 1;
  bool lease = false;
};

enum EventKind : uint64_t { kSnapshot = 1, kSynced = 2 };
constexpr int kQuietMs = 20;
constexpr int kPatienceMs = 60000;

void Keep(FILE* file, std::string_view message) {
  const auto length = static_cast<uint32_t>(message.size());
  if (fwrite(&length, sizeof length, 1, file) != 1 ||
      fwrite(message.data(), 1, message.size(), file) != message.size())
    Die("recording");
}

// How many events of a WatchDevicesResponse are of a kind.
int EventsOf(std::string_view message, uint64_t kind) {
  int count = 0;
  for (Fields events(message); events.Next();) {
    if (events.field() != 1) continue;
    for (Fields event(events.bytes()); event.Next();) count += event.field() == 1 && event.number() == kind;
  }
  return count;
}

class Streams {
 public:
  explicit Streams(const Options& options) : options_(options), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    if (!options.record.empty() && (file_ = fopen(options.record.c_str(), "w")) == nullptr)
      Die(options.record);
  }
  ~Streams() {
    if (file_ != nullptr) fclose(file_);
  }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  void Snapshot() {
    int devices = 0, messages = 0;
    size_t bytes = 0;
    bool over = false;
    GrpcConnection::Handlers handlers;
    handlers.message = [&](int32_t, std::string_view message) {
      bytes += message.size();
      messages += 1;
      devices += EventsOf(message, kSnapshot);
      if (EventsOf(message, kSynced) > 0) over = true;
      if (file_ != nullptr) Keep(file_, message);
    };
    handlers.ended = [&](int32_t, const Ending& ending) {
      if (ending.status != 0) Die("the stream ended: " + ending.message);
      over = true;
    };
    GrpcConnection connection(options_.socket, handlers);
    Watch(connection.fd(), 0);
    const uint64_t begin = NowNanoseconds();
    connection.Call(options_.path, "", true);
    connection.Flush();
    while (!over) {
      if (Wait(kPatienceMs) == 0) Die("the stream stands still");
      connection.Read();
    }
    const double seconds = static_cast<double>(NowNanoseconds() - begin) / 1e9;
    printf("{\"count\":%d,\"messages\":%d,\"bytes\":%zu,\"seconds\":%.6f,\"perSecond\":%.1f}\n", devices,
           messages, bytes, seconds, devices / seconds);
  }

  void Change() {
    heard_.assign(static_cast<size_t>(options_.connections), false);
    for (int i = 0; i < options_.connections; i++) Open(i);
    while (synced_ < options_.connections) Turn(kPatienceMs);
    OpenCaller();
    std::vector<double> delays;
    for (int i = 0; i < options_.count; i++) {
      while (Turn(kQuietMs)) {
      }
      std::fill(heard_.begin(), heard_.end(), false);
      told_ = 0;
      counting_ = true;
      begin_ = NowNanoseconds();
      Cause();
      while (told_ < options_.connections || !caused_) Turn(kPatienceMs);
      counting_ = false;
      delays.push_back(static_cast<double>(last_ - begin_) / 1e3);
      if (options_.lease) Undo();
    }
    std::sort(delays.begin(), delays.end());
    printf("{\"count\":%zu,\"p50\":%.3f,\"p99\":%.3f}\n", delays.size(), delays[delays.size() / 2],
           delays[std::min(delays.size() - 1, delays.size() * 99 / 100)]);
  }

 private:
  void Watch(int fd, uint32_t key) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u32 = key;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) Die("epoll_ctl");
  }

  int Wait(int ms) {
    ready_.resize(64);
    const int events = epoll_wait(epoll_, ready_.data(), 64, ms);
    ready_.resize(events > 0 ? static_cast<size_t>(events) : 0);
    return events;
  }

  // False when nothing came.
  bool Turn(int ms) {
    if (Wait(ms) == 0) {
      errno = ETIMEDOUT;
      if (ms == kPatienceMs) Die("a stream stands still");
      return false;
    }
    for (const epoll_event& event : ready_) {
      const size_t which = event.data.u32;
      if (which < streams_.size())
        streams_[which]->Read();
      else if (which == kCaller)
        caller_->Read();
      else
        ReadChannel();
    }
    return true;
  }

  void Open(int number) {
    GrpcConnection::Handlers handlers;
    handlers.message = [this, number](int32_t, std::string_view message) { Heard(number, message); };
    handlers.ended = [](int32_t, const Ending& ending) { Die("a watch ended: " + ending.message); };
    streams_.push_back(std::make_unique<GrpcConnection>(options_.socket, handlers));
    Watch(streams_.back()->fd(), static_cast<uint32_t>(number));
    streams_.back()->Call(options_.path, "", true);
    streams_.back()->Flush();
  }

  void Heard(int number, std::string_view message) {
    if (synced_ < options_.connections) {
      synced_ += !options_.lease || EventsOf(message, kSynced) > 0;
      return;
    }
    if (!counting_ || heard_[static_cast<size_t>(number)]) return;
    heard_[static_cast<size_t>(number)] = true;
    told_ += 1;
    last_ = NowNanoseconds();
    if (file_ == nullptr) return;
    Keep(file_, message);
    fclose(file_);
    file_ = nullptr;
  }

  void OpenCaller() {
    GrpcConnection::Handlers handlers;
    handlers.message = [this](int32_t, std::string_view message) {
      for (Fields answer(message); options_.lease && answer.Next();)
        if (answer.field() == 1)
          for (Fields lease(answer.bytes()); lease.Next();)
            if (lease.field() == 1) lease_ = lease.bytes();
    };
    handlers.ended = [this](int32_t, const Ending& ending) {
      if (ending.status != 0) Die("the change was refused: " + ending.message);
      answered_ = true;
      caused_ = answered_ && (offered_ || !options_.lease);
    };
    caller_ = std::make_unique<GrpcConnection>(options_.socket, handlers);
    Watch(caller_->fd(), kCaller);
    if (!options_.lease) return;
    channel_ = std::make_unique<DescriptorChannel>(options_.channel, true);
    Watch(channel_->fd(), kChannel);
  }

  void Cause() {
    answered_ = offered_ = caused_ = false;
    std::string selection, request;
    if (options_.lease) {
      PutBytes(&selection, 1, options_.address);
      PutNumber(&request, 2, 1);
      PutBytes(&request, 3, selection);
    }
    caller_->Call(options_.lease ? "/aperture.v1.LeaseService/AcquireLease" : "/bench.Bare/Change", request,
                  true);
    caller_->Flush();
  }

  void ReadChannel() {
    Arrival arrival;
    if (!channel_->Receive(&arrival) || !arrival.offer) return;
    channel_->Acknowledge(arrival.lease, static_cast<uint32_t>(arrival.descriptors));
    offered_ = true;
    caused_ = answered_;
  }

  void Undo() {
    std::string request;
    PutBytes(&request, 1, lease_);
    answered_ = false;
    caller_->Call("/aperture.v1.LeaseService/ReleaseLease", request, true);
    caller_->Flush();
    while (!answered_) Turn(kPatienceMs);
  }

  static constexpr uint32_t kCaller = 1u << 30;
  static constexpr uint32_t kChannel = kCaller + 1;

  const Options& options_;
  const int epoll_;
  FILE* file_ = nullptr;
  std::vector<epoll_event> ready_;
  std::vector<std::unique_ptr<GrpcConnection>> streams_;
  std::unique_ptr<GrpcConnection> caller_;
  std::unique_ptr<DescriptorChannel> channel_;
  std::vector<bool> heard_;
  std::string lease_;
  uint64_t begin_ = 0, last_ = 0;
  int synced_ = 0, told_ = 0;
  bool counting_ = false, answered_ = false, offered_ = false, caused_ = false;
};

Options Read(int argc, char** argv) {
  Options options;
  static const option kNames[] = {{"mode", 1, nullptr, 'm'},    {"socket", 1, nullptr, 's'},
                                  {"channel", 1, nullptr, 'c'}, {"path", 1, nullptr, 'p'},
                                  {"record", 1, nullptr, 'r'},  {"connections", 1, nullptr, 'n'},
                                  {"count", 1, nullptr, 'k'},   {"address", 1, nullptr, 'a'},
                                  {"lease", 0, nullptr, 'l'},   {nullptr, 0, nullptr, 0}};
  for (int name; (name = getopt_long(argc, argv, "", kNames, nullptr)) != -1;) {
    switch (name) {
      case 'm':
        options.mode = optarg;
        break;
      case 's':
        options.socket = optarg;
        break;
      case 'c':
        options.channel = optarg;
        break;
      case 'p':
        options.path = optarg;
        break;
      case 'r':
        options.record = optarg;
        break;
      case 'a':
        options.address = optarg;
        break;
      case 'n':
        options.connections = atoi(optarg);
        break;
      case 'k':
        options.count = atoi(optarg);
        break;
      case 'l':
        options.lease = true;
        break;
      default:
        exit(2);
    }
  }
  return options;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  const bench::Options options = bench::Read(argc, argv);
  bench::Streams streams(options);
  if (options.mode == "snapshot")
    streams.Snapshot();
  else
    streams.Change();
}
