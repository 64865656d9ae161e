// The load of the lease cases: a closed loop, one lease under way on each connection, one process and one
// thread. Everything that a lease has is checked: the descriptors that arrived, the regions of the answer,
// that answer and offer name one lease, and at the end that the last lease of each connection is HELD.
// Latency: from the request to the moment when answer and descriptors are there and the acknowledgement is
// sent. A release is not part of it. Prints one line of JSON; ends with status 1 as soon as anything is
// wrong.

#include <getopt.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "lease_load.h"

namespace bench {
namespace {

Way WayOf(const std::string& name) {
  if (name == "echo") return Way::kEcho;
  if (name == "call") return Way::kCall;
  if (name == "push") return Way::kPush;
  if (name == "session") return Way::kSession;
  if (name == "ticket") return Way::kTicket;
  if (name == "token") return Way::kToken;
  fprintf(stderr, "--way %s: echo, call, push, session, ticket or token\n", name.c_str());
  exit(2);
}

}  // namespace

Options ReadOptions(int argc, char** argv) {
  Options options;
  static const option kNames[] = {
      {"way", 1, nullptr, 'y'},     {"socket", 1, nullptr, 's'},      {"channel", 1, nullptr, 'c'},
      {"path", 1, nullptr, 'p'},    {"connections", 1, nullptr, 'n'}, {"count", 1, nullptr, 'k'},
      {"warmup", 1, nullptr, 'w'},  {"first", 1, nullptr, 'f'},       {"devices", 1, nullptr, 'd'},
      {"body", 1, nullptr, 'b'},    {"descriptors", 1, nullptr, 'D'}, {"regions", 1, nullptr, 'R'},
      {"address", 1, nullptr, 'a'}, {"hold", 0, nullptr, 'h'},        {"release", 0, nullptr, 'r'},
      {"spin", 1, nullptr, 'S'},    {nullptr, 0, nullptr, 0}};
  for (int name; (name = getopt_long(argc, argv, "", kNames, nullptr)) != -1;) {
    switch (name) {
      case 'y':
        options.way = WayOf(optarg);
        break;
      case 's':
        options.socket = optarg;
        break;
      case 'c':
        options.channel = optarg;
        break;
      case 'h':
        options.hold = true;
        break;
      case 'a':
        options.address = optarg;
        break;
      case 'p':
        options.path = optarg;
        break;
      case 'n':
        options.connections = atoi(optarg);
        break;
      case 'k':
        options.count = atoi(optarg);
        break;
      case 'w':
        options.warmup = atoi(optarg);
        break;
      case 'f':
        options.first = atoi(optarg);
        break;
      case 'd':
        options.devices = atoi(optarg);
        break;
      case 'b':
        options.body = atoi(optarg);
        break;
      case 'D':
        options.descriptors = atoi(optarg);
        break;
      case 'R':
        options.regions = atoi(optarg);
        break;
      case 'S':
        options.spin = atoi(optarg);
        break;
      case 'r':
        options.release = true;
        break;
      default:
        exit(2);
    }
  }
  return options;
}

Load::Load(const Options& options) : options_(options), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  for (int i = 0; i < options.connections; i++) {
    callers_.push_back(std::make_unique<Caller>(this, options, i));
    Watch(callers_.back()->grpc->fd(), static_cast<uint64_t>(i) << 1);
    if (callers_.back()->channel) Watch(callers_.back()->channel->fd(), static_cast<uint64_t>(i) << 1 | 1);
  }
}

void Load::Run() {
  latencies_.reserve(static_cast<size_t>(options_.count));
  begin_ = NowNanoseconds();
  for (const auto& caller : callers_) caller->Start();
  while (finished_ < options_.warmup + options_.count) Turn();
  end_ = NowNanoseconds();
  while (busy_ > 0) Turn();
  if (options_.Leases() && options_.way != Way::kToken && !options_.release) {
    for (const auto& caller : callers_) caller->AskState();
    while (unknown_ > 0) Turn();
  }
}

void Load::Print() {
  std::sort(latencies_.begin(), latencies_.end());
  std::sort(releases_.begin(), releases_.end());
  const double seconds = static_cast<double>(end_ - begin_) / 1e9;
  const auto at = [](const std::vector<uint32_t>& all, size_t percent) {
    return all.empty() ? 0.0 : all[std::min(all.size() - 1, all.size() * percent / 100)] / 1e3;
  };
  printf("{\"count\":%zu,\"retries\":%d,\"perSecond\":%.1f,\"p50\":%.3f,\"p99\":%.3f,\"releaseP50\":%.3f}\n",
         latencies_.size(), retries_, static_cast<double>(latencies_.size()) / seconds, at(latencies_, 50),
         at(latencies_, 99), at(releases_, 50));
}

int Load::Next(int caller) {
  if (begun_ == options_.warmup + options_.count) return -1;
  const int device = options_.release
                         ? caller + (begun_ / options_.connections % options_.devices) * options_.connections
                         : begun_;
  begun_ += 1;
  busy_ += 1;
  return options_.first + device;
}

void Load::Leased(uint64_t nanoseconds) {
  finished_ += 1;
  if (finished_ > options_.warmup && latencies_.size() < static_cast<size_t>(options_.count))
    latencies_.push_back(static_cast<uint32_t>(nanoseconds));
  if (finished_ == options_.warmup) begin_ = NowNanoseconds();
}

void Load::Retried() {
  retries_ += 1;
  if (retries_ > kReasonablyMany + 50 * (options_.warmup + options_.count))
    Die("HANDOVER_PENDING without end");
}

void Load::Watch(int fd, uint64_t key) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = key;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) Die("epoll_ctl");
}

void Load::Turn() {
  epoll_event ready[64];
  int events = 0;
  if (options_.spin > 0) {
    const uint64_t until = NowNanoseconds() + static_cast<uint64_t>(options_.spin) * 1000;
    while (events == 0 && NowNanoseconds() < until) events = epoll_wait(epoll_, ready, 64, 0);
  }
  if (events == 0) events = epoll_wait(epoll_, ready, 64, 20000);
  if (events == 0) {
    errno = ETIMEDOUT;
    Die("nothing came for 20 s");
  }
  for (int i = 0; i < events; i++) {
    Caller& caller = *callers_[ready[i].data.u64 >> 1];
    if ((ready[i].data.u64 & 1) != 0)
      caller.ReadChannel();
    else
      caller.grpc->Read();
  }
}

}  // namespace bench

int main(int argc, char** argv) {
  const bench::Options options = bench::ReadOptions(argc, argv);
  bench::Load load(options);
  load.Run();
  if (options.hold) {
    puts("READY");
    fflush(stdout);
    for (;;) pause();
  }
  load.Print();
}
