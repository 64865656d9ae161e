// One connection with its descriptor channel, and the steps of one lease after the other.

#include <cstring>

#include "lease_load.h"
#include "wire.h"

namespace bench {
namespace {

constexpr int kUnimplemented = 12;
constexpr const char* kService = "/aperture.v1.LeaseService/";
enum LeaseField : uint32_t { kId = 1, kState = 4, kDevices = 5 };
enum LeaseState : uint64_t { kOffered = 2, kHeld = 3 };

// The device list of test/bench/programs/many-devices.ts.
std::string AddressOf(int index) {
  char text[16];
  snprintf(text, sizeof text, "%04x:%02x:%02x.%x", 0x1000 + (index >> 16), (index >> 8) & 0xff,
           (index >> 3) & 0x1f, index & 7);
  return text;
}

Id IdOf(std::string_view uuid) {
  Id id = {};
  size_t digits = 0;
  for (const char c : uuid) {
    if (c == '-') continue;
    const int value = c <= '9' ? c - '0' : c - 'a' + 10;
    if (digits >= 32 || value < 0 || value > 15) Die("the answer's lease id is no UUID");
    id[digits / 2] = static_cast<uint8_t>(id[digits / 2] << 4 | value);
    digits += 1;
  }
  if (digits != 32) Die("the answer's lease id is no UUID");
  return id;
}

void ReadLease(std::string_view message, LeaseAnswer* answer) {
  for (Fields lease(message); lease.Next();) {
    if (lease.field() == kId) answer->id = lease.bytes();
    if (lease.field() == kState) answer->state = lease.number();
    if (lease.field() != kDevices) continue;
    for (Fields device(lease.bytes()); device.Next();) answer->regions += device.field() == 2;
  }
}

// AcquireLeaseResponse, GetLeaseResponse: lease is field 1, ticket field 2.
LeaseAnswer ReadAnswer(std::string_view message) {
  LeaseAnswer answer;
  for (Fields fields(message); fields.Next();) {
    if (fields.field() == 1) ReadLease(fields.bytes(), &answer);
    if (fields.field() == 2) answer.ticket = fields.bytes();
  }
  return answer;
}

}  // namespace

Caller::Caller(Load* load, const Options& options, int number)
    : load_(load), options_(options), number_(number) {
  GrpcConnection::Handlers handlers;
  handlers.message = [this](int32_t call, std::string_view message) {
    if (call == stream_)
      OnSession(message);
    else
      OnMessage(message);
  };
  handlers.ended = [this](int32_t call, const Ending& ending) {
    if (call != stream_) return OnEnd(ending);
    if (ending.status == kUnimplemented) Cannot(ending.message);
    Die("the session has ended: " + ending.message);
  };
  grpc = std::make_unique<GrpcConnection>(options.socket, handlers);
  if (options.Leases())
    channel = std::make_unique<DescriptorChannel>(options.channel, options.way != Way::kToken);
  if (options.way == Way::kEcho) PutBytes(&echo_, 1, std::string(static_cast<size_t>(options.body - 3), 'x'));
}

void Caller::Start() {
  device_ = load_->Next(number_);
  if (device_ >= 0)
    Acquire();
  else
    step_ = Step::kIdle;
}

void Caller::Acquire() {
  step_ = Step::kAcquire;
  answered_ = false;
  offered_ = !options_.Leases();
  answer_ = {};
  begin_ = NowNanoseconds();
  if (!options_.Leases()) {
    grpc->Call(options_.path, echo_, true);
    grpc->Flush();
    return;
  }
  std::string selection, request;
  PutBytes(&selection, 1, options_.address.empty() ? AddressOf(device_) : options_.address);
  PutNumber(&request, 2, 1);
  PutBytes(&request, 3, selection);
  // ticket {}: its defaults.
  if (options_.way == Way::kTicket)
    PutBytes(&request, 6, "");
  else if (options_.way != Way::kToken)
    PutNumber(&request, 5, channel->number());
  Ask("AcquireLease", 2, request);
}

void Caller::Release() {
  step_ = Step::kRelease;
  begin_ = NowNanoseconds();
  std::string request;
  PutBytes(&request, 1, answer_.id);
  Ask("ReleaseLease", 3, request);
}

void Caller::AskState() {
  if (answer_.id.empty()) return;
  if (step_ != Step::kState) load_->StateAsked();
  step_ = Step::kState;
  std::string request;
  PutBytes(&request, 1, answer_.id);
  Ask("GetLease", 4, request);
}

void Caller::Ask(const char* method, uint32_t session_field, const std::string& request) {
  if (options_.way == Way::kSession) {
    std::string message;
    PutNumber(&message, 1, ++sequence_);
    PutBytes(&message, session_field, request);
    if (stream_ < 0)
      stream_ = grpc->Call(std::string(kService) + "Session", message, false);
    else
      grpc->Send(stream_, message);
  } else {
    grpc->Call(std::string(kService) + method, request, true);
  }
  grpc->Flush();
}

void Caller::OnSession(std::string_view message) {
  for (Fields fields(message); fields.Next();) {
    if (fields.field() == 1 && fields.number() != sequence_) Die("an answer to another request");
    if (fields.field() == 5) return Refused(std::string(fields.bytes()));
    if (fields.field() == 2 || fields.field() == 3 || fields.field() == 4) {
      OnAnswer(fields.bytes());
      return Answered();
    }
  }
  Die("an answer of the session that is none");
}

void Caller::OnMessage(std::string_view message) {
  if (options_.way == Way::kEcho) {
    if (message != echo_) Die("the echo is another");
  } else if (options_.way == Way::kCall) {
    if (message.empty()) Die("the answer is empty");
  } else {
    OnAnswer(message);
  }
}

void Caller::OnAnswer(std::string_view message) {
  LeaseAnswer answer = ReadAnswer(message);
  if (step_ == Step::kAcquire)
    answer_ = answer;
  else if (step_ == Step::kState)
    answer_.state = answer.state;
}

void Caller::OnEnd(const Ending& ending) {
  if (ending.status == 0) return Answered();
  if (ending.status == kUnimplemented) Cannot(ending.message);
  Refused(ending.message + " " + ending.details);
}

void Caller::Refused(const std::string& what) {
  // The daemon had not read the acknowledgement yet: the protocol says to ask again.
  if (step_ != Step::kAcquire || what.find("HANDOVER_PENDING") == std::string::npos) Die("refused: " + what);
  load_->Retried();
  const uint64_t begin = begin_;
  Acquire();
  begin_ = begin;
}

void Caller::Answered() {
  if (step_ == Step::kState) {
    // The acknowledgement is read some time after it was sent.
    if (answer_.state != kHeld && ++asked_ < kReasonablyMany) return AskState();
    if (answer_.state != kHeld) Die("a lease that was acknowledged is not HELD");
    load_->StateKnown();
    return;
  }
  if (step_ == Step::kRelease) {
    load_->Released(NowNanoseconds() - begin_);
    load_->Over();
    return Start();
  }
  answered_ = true;
  if (options_.way == Way::kTicket || options_.way == Way::kToken) {
    if (answer_.ticket.size() != 16) Die("no ticket in the answer");
    Id ticket;
    memcpy(ticket.data(), answer_.ticket.data(), ticket.size());
    if (options_.way == Way::kTicket)
      channel->Show(ticket);
    else
      channel->SendToken(ticket);
  }
  DoneWhenBoth();
}

void Caller::ReadChannel() {
  Arrival arrival;
  if (!channel->Receive(&arrival) || !arrival.offer) return;
  if (step_ != Step::kAcquire || offered_) Die("descriptors that nobody has asked for");
  if (arrival.descriptors != options_.descriptors)
    Die(std::to_string(arrival.descriptors) + " descriptors instead of " +
        std::to_string(options_.descriptors));
  offered_ = true;
  offered_lease_ = arrival.lease;
  if (options_.way != Way::kToken)
    channel->Acknowledge(arrival.lease, static_cast<uint32_t>(arrival.descriptors));
  DoneWhenBoth();
}

void Caller::DoneWhenBoth() {
  if (!answered_ || !offered_) return;
  load_->Leased(NowNanoseconds() - begin_);
  if (!options_.Leases()) {
    load_->Over();
    return Start();
  }
  if (options_.regions >= 0 && answer_.regions != options_.regions)
    Die(std::to_string(answer_.regions) + " regions in the answer instead of " +
        std::to_string(options_.regions));
  if (options_.way != Way::kToken && IdOf(answer_.id) != offered_lease_)
    Die("answer and offer name two leases");
  if (options_.release) return Release();
  load_->Over();
  Start();
}

}  // namespace bench
