// The parts of lease_client: what is asked (Options), one connection and its lease (Caller), all of them and
// their figures (Load).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "descriptor_channel.h"
#include "grpc_connection.h"

namespace bench {

// echo: a unary call that answers with its request; call: any other, with an empty request. push, session,
// ticket: Aperture's three ways. token: the C++ peer.
enum class Way { kEcho, kCall, kPush, kSession, kTicket, kToken };

struct Options {
  Way way = Way::kEcho;
  std::string socket, channel, path;
  // One device for all; empty: those of test/bench/programs/many-devices.ts by number.
  std::string address;
  int connections = 1, count = 1, warmup = 0, first = 0, devices = 1, body = 1008;
  int descriptors = 2, regions = 6, spin = 0;
  bool release = false;
  // Keeps what it has until it is ended, and says READY instead of figures.
  bool hold = false;

  bool Leases() const { return way != Way::kEcho && way != Way::kCall; }
};

Options ReadOptions(int argc, char** argv);

// Answers of a refusal that are tried again before the load counts as stuck.
constexpr int kReasonablyMany = 1000;

struct LeaseAnswer {
  std::string id;
  std::string ticket;
  uint64_t state = 0;
  int regions = 0;
};

class Load;

class Caller {
 public:
  Caller(Load* load, const Options& options, int number);
  void Start();
  void AskState();
  void ReadChannel();

  std::unique_ptr<DescriptorChannel> channel;
  std::unique_ptr<GrpcConnection> grpc;

 private:
  enum class Step { kIdle, kAcquire, kRelease, kState };

  void Acquire();
  void Release();
  void OnMessage(std::string_view message);
  void OnSession(std::string_view message);
  void OnEnd(const Ending& ending);
  void OnAnswer(std::string_view message);
  void Refused(const std::string& what);
  void Answered();
  void DoneWhenBoth();
  void Ask(const char* method, uint32_t session_field, const std::string& request);

  Load* const load_;
  const Options& options_;
  const int number_;
  Step step_ = Step::kIdle;
  int32_t stream_ = -1;
  uint64_t sequence_ = 0, begin_ = 0;
  int device_ = 0, asked_ = 0;
  bool answered_ = false, offered_ = false;
  LeaseAnswer answer_;
  Id offered_lease_ = {};
  std::string echo_;
};

class Load {
 public:
  explicit Load(const Options& options);

  void Run();
  void Print();

  // The next device, or -1 when enough has been begun.
  int Next(int caller);
  void Leased(uint64_t nanoseconds);
  void Released(uint64_t nanoseconds) { releases_.push_back(static_cast<uint32_t>(nanoseconds)); }
  void Over() { busy_ -= 1; }
  void Retried();
  void StateAsked() { unknown_ += 1; }
  void StateKnown() { unknown_ -= 1; }

 private:
  void Watch(int fd, uint64_t key);
  void Turn();

  const Options& options_;
  const int epoll_;
  std::vector<std::unique_ptr<Caller>> callers_;
  std::vector<uint32_t> latencies_, releases_;
  uint64_t begin_ = 0, end_ = 0;
  int begun_ = 0, finished_ = 0, busy_ = 0, retries_ = 0, unknown_ = 0;
};

}  // namespace bench
