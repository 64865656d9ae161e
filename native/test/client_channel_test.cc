// [real kernel] The C client's channel against a daemon that says right things, wrong things, and things
// nobody chose.
#include <sys/resource.h>

#include <cerrno>
#include <functional>
#include <random>

#include "client_peer.h"

namespace aperture::client_test {
namespace {

TEST(client_attaches) {
  Peer peer(false);
  CHECK(peer.channel.number == 0 && peer.channel.error == 0);
  CHECK(peer.Receive() == 0 && peer.event.type == APERTURE_EVENT_NONE);
  peer.Send(Attached());
  CHECK(peer.Receive() == 1 && peer.event.type == APERTURE_EVENT_ATTACHED);
  CHECK(peer.channel.number == 7 && peer.channel.max_frame == 1328);
  CHECK(peer.channel.max_descriptors == 32 && peer.channel.ack_ms == 2000);
}

TEST(client_takes_offers_of_every_back_end) {
  for (const Bytes& frame : {IommufdOffer(), LegacyOffer(), SimulatedOffer()}) {
    Peer peer;
    const size_t count = frame[32];
    const int before = check::CountDescriptors();
    peer.Send(frame, count);
    CHECK(peer.Receive() == 1 && peer.event.type == APERTURE_EVENT_OFFER);
    aperture_offer* const offer = &peer.event.offer;
    CHECK(offer->count == count && offer->backend == frame[37] && offer->kind == frame[36] &&
          offer->flags == 0);
    CHECK(memcmp(offer->lease.bytes, frame.data() + 16, 16) == 0);
    CHECK(memcmp(peer.event.lease.bytes, frame.data() + 16, 16) == 0);
    CHECK(check::CountDescriptors() == before + static_cast<int>(count));
    for (size_t i = 0; i < count; i++) {
      CHECK(offer->descriptors[i].kind == frame[48 + 40 * i]);
      CHECK((fcntl(offer->descriptors[i].fd, F_GETFD) & FD_CLOEXEC) != 0);
    }
    CHECK(aperture_accept(&peer.channel, offer) == 0);
    CHECK(peer.Read() == Ack(static_cast<uint32_t>(count)));
    aperture_offer_close(offer);
    aperture_offer_close(offer);
    CHECK(check::CountDescriptors() == before);
  }
}

TEST(client_reads_what_an_entry_says) {
  Peer peer;
  peer.Send(SimulatedOffer(), 2);
  CHECK(peer.Receive() == 1);
  const aperture_descriptor* const found = aperture_find(&peer.event.offer, APERTURE_REGION, kGpu);
  CHECK(found == &peer.event.offer.descriptors[0]);
  const aperture_descriptor& second = peer.event.offer.descriptors[1];
  CHECK(second.number == 4 && second.offset == 0x1000 && second.size == 0x2000000000);
  CHECK(second.scope == APERTURE_SCOPE_REGION && strcmp(second.address, kGpu) == 0);
  CHECK(aperture_find(&peer.event.offer, APERTURE_REGION, "0000:01:00.1") == nullptr);
  CHECK(aperture_find(&peer.event.offer, APERTURE_IOMMUFD, nullptr) == nullptr);
  CHECK(aperture_decline(&peer.channel, &peer.event.offer) == 0);
  CHECK(peer.Read() == Ack(0));
}

TEST(client_tells_a_succession_and_ignores_what_is_reserved) {
  Bytes frame = IommufdOffer();
  frame[38] = 0xff;
  frame[6] = frame[12] = frame[39] = frame[51] = 0xaa;
  Peer peer;
  peer.Send(frame, 3);
  CHECK(peer.Receive() == 1 && peer.event.offer.flags == APERTURE_OFFER_SUCCESSION);
  aperture_offer_close(&peer.event.offer);
}

TEST(client_is_told_of_ends_and_recalls) {
  Peer peer;
  peer.Send(Ended(10));
  peer.Send(Recall(6, 30000));
  peer.Send(Ended(77));
  CHECK(peer.Receive() == 1 && peer.event.type == APERTURE_EVENT_ENDED && peer.event.grace_ms == 0);
  CHECK(strcmp(aperture_cause_name(peer.event.cause), "SUCCEEDED") == 0);
  CHECK(peer.Receive() == 1 && peer.event.type == APERTURE_EVENT_RECALL && peer.event.grace_ms == 30000);
  CHECK(peer.event.cause == APERTURE_CAUSE_DEVICE_REMOVED && peer.event.lease.bytes[15] == 0xff);
  CHECK(peer.Receive() == 1 && peer.event.cause == 77);
  CHECK(strcmp(aperture_cause_name(77), "UNKNOWN") == 0);
  CHECK(peer.Receive() == 0);
}

TEST(client_shows_one_ticket_at_a_time) {
  uint8_t ticket[16];
  CHECK(aperture_ticket_parse("00112233445566778899aAbBcCdDeEfF", ticket) == 0);
  Bytes frame = MakeFrame(kShow, 32);
  for (size_t i = 0; i < 16; i++) frame[16 + i] = static_cast<uint8_t>(0x11 * i);
  Peer peer;
  CHECK(aperture_show(&peer.channel, ticket) == 0);
  CHECK(peer.Read() == frame);
  CHECK(aperture_show(&peer.channel, ticket) == APERTURE_E_SHOWING);
  CHECK(peer.Read().empty());
  peer.Send(WithReason(kRefused, "TICKET_EXPIRED"));
  CHECK(peer.Receive() == 1 && peer.event.type == APERTURE_EVENT_REFUSED);
  CHECK(strcmp(peer.event.reason, "TICKET_EXPIRED") == 0);
  CHECK(aperture_show(&peer.channel, ticket) == 0);
  peer.Send(IommufdOffer(), 3);
  CHECK(peer.Receive() == 1 && !peer.channel.showing);
  aperture_offer_close(&peer.event.offer);
}

TEST(client_reads_the_goodbye_then_the_end) {
  Peer peer;
  const std::string longest(64, 'A');
  peer.Send(WithReason(kGoodbye, longest));
  peer.far.reset();
  CHECK(peer.Receive() == 1 && peer.event.type == APERTURE_EVENT_GOODBYE && peer.event.reason == longest);
  CHECK(peer.Receive() == APERTURE_E_CLOSED && peer.Receive() == APERTURE_E_CLOSED);
  const uint8_t ticket[16] = {};
  CHECK(aperture_show(&peer.channel, ticket) == APERTURE_E_CLOSED);
  CHECK(aperture_accept(&peer.channel, &peer.event.offer) == APERTURE_E_CLOSED);
}

// The kernel tells of the reset before it gives out what the daemon had said: without care the reason is
// lost.
TEST(client_reads_the_goodbye_of_a_daemon_that_left_a_frame_unread) {
  Peer peer;
  const uint8_t ticket[16] = {};
  CHECK(aperture_show(&peer.channel, ticket) == 0);
  peer.Send(WithReason(kGoodbye, "DRAINING"));
  peer.far.reset();
  CHECK(peer.Receive() == 1 && peer.event.type == APERTURE_EVENT_GOODBYE &&
        std::string(peer.event.reason) == "DRAINING");
  CHECK(peer.Receive() == APERTURE_E_CLOSED);
}

TEST(client_sends_to_a_daemon_that_is_gone) {
  Peer peer;
  peer.Send(WithReason(kGoodbye, "DRAINING"));
  peer.far.reset();
  const uint8_t ticket[16] = {};
  CHECK(aperture_show(&peer.channel, ticket) == APERTURE_E_CLOSED);
  CHECK(peer.Receive() == 1 && peer.event.type == APERTURE_EVENT_GOODBYE);
}

TEST(client_waits_no_longer_than_it_is_told) {
  Peer peer;
  CHECK(aperture_receive(&peer.channel, &peer.event, 1) == 0);
  CHECK(peer.channel.error == 0);
  peer.Send(Ended());
  CHECK(aperture_receive(&peer.channel, &peer.event, -1) == 1);
}

struct Wrong {
  const char* what;
  Bytes frame;
  size_t descriptors;
  int error;
};

// Each is one field away from a good frame. Nothing of it may stay open, and the channel is over.
void Refused(const Wrong& wrong, bool attached = true) {
  Peer peer(attached);
  const int before = check::CountDescriptors();
  peer.Send(wrong.frame, wrong.descriptors);
  const int got = peer.Receive();
  if (got != wrong.error) fprintf(stderr, "  %s: %d\n", wrong.what, got);
  CHECK(got == wrong.error);
  CHECK(check::CountDescriptors() == before);
  CHECK(peer.event.type == APERTURE_EVENT_NONE && peer.event.offer.count == 0);
  CHECK(peer.AtEnd());
  const uint8_t ticket[16] = {};
  CHECK(peer.Receive() == wrong.error && aperture_show(&peer.channel, ticket) == wrong.error);
}

Bytes Edited(Bytes frame, const std::function<void(Bytes*)>& edit) {
  edit(&frame);
  return frame;
}

Bytes With(Bytes frame, size_t at, uint64_t value, size_t width) {
  Put(&frame, at, value, width);
  return frame;
}

Bytes WithText(Bytes frame, size_t at, size_t width, const std::string& text) {
  std::fill(frame.begin() + static_cast<ptrdiff_t>(at), frame.begin() + static_cast<ptrdiff_t>(at + width),
            uint8_t{0});
  PutText(&frame, at, text);
  return frame;
}

TEST(client_refuses_wrong_headers) {
  for (const Bytes& good :
       {Ended(), Recall(6, 1), IommufdOffer(), WithReason(kGoodbye, "DRAINING"), WithReason(kRefused, "A")}) {
    const size_t count = good[5] == kOffer ? good[32] : 0;
    for (size_t i = 0; i < 4; i++) Refused({"magic", With(good, i, 0, 1), count, APERTURE_E_MAGIC});
    for (const uint64_t version : {0, 2, 255})
      Refused({"version", With(good, 4, version, 1), count, APERTURE_E_VERSION});
    for (const uint64_t type : {0, 1, 4, 8, 10, 255})
      Refused({"type", With(good, 5, type, 1), count, APERTURE_E_TYPE});
    for (const uint64_t length :
         {uint64_t{0}, uint64_t{15}, good.size() - 1, good.size() + 1, uint64_t{0xffffffff}})
      Refused({"length", With(good, 8, length, 4), count, APERTURE_E_LENGTH});
  }
}

// Cut at every byte, with a header that admits it and with one that does not.
TEST(client_refuses_frames_of_every_other_length) {
  for (const Bytes& good :
       {Attached(), Ended(), Recall(6, 1), IommufdOffer(), WithReason(kGoodbye, "DRAINING")}) {
    const bool attached = good[5] != kAttached;
    for (size_t length = 1; length <= good.size() + 8; length++) {
      if (length == good.size()) continue;
      Bytes frame = good;
      frame.resize(length);
      Refused({"cut", frame, 0, APERTURE_E_LENGTH}, attached);
      if (length >= 16) Refused({"short", With(frame, 8, length, 4), 0, APERTURE_E_LENGTH}, attached);
    }
  }
  Bytes longest = WithReason(kGoodbye, "DRAINING");
  longest.resize(4000);
  Refused({"long", With(longest, 8, 4000, 4), 2, APERTURE_E_LENGTH});
}

TEST(client_refuses_a_wrong_attached) {
  Refused({"channel 0", With(Attached(), 16, 0, 8), 0, APERTURE_E_FIELD}, false);
  Refused({"no descriptors", Attached(1328, 0), 0, APERTURE_E_FIELD}, false);
  Refused({"33 descriptors", Attached(1368, 33), 0, APERTURE_E_FIELD}, false);
  Refused({"a larger frame", Attached(1329, 32), 0, APERTURE_E_FIELD}, false);
  Refused({"a frame too small for its descriptors", Attached(1327, 32), 0, APERTURE_E_FIELD}, false);
  Refused({"with a descriptor", Attached(), 1, APERTURE_E_DESCRIPTORS}, false);
  Refused({"twice", Attached(), 0, APERTURE_E_TYPE}, true);
  Refused({"an offer before it", IommufdOffer(), 3, APERTURE_E_TYPE}, false);
  Refused({"an end before it", Ended(), 0, APERTURE_E_TYPE}, false);
  Refused({"a refusal before it", WithReason(kRefused, "TICKET_USED"), 0, APERTURE_E_TYPE}, false);
}

TEST(client_refuses_wrong_offers) {
  const Bytes good = IommufdOffer();
  for (const uint64_t count : {0, 33, 255}) Refused({"count", With(good, 32, count, 4), 3, APERTURE_E_COUNT});
  Refused({"count that wraps", With(good, 32, 0x80000003, 4), 3, APERTURE_E_COUNT});
  for (const uint64_t count : {1, 2, 4, 32})
    Refused({"another count", With(good, 32, count, 4), 3, APERTURE_E_LENGTH});
  for (const uint64_t kind : {0, 3, 255})
    Refused({"lease kind", With(good, 36, kind, 1), 3, APERTURE_E_FIELD});
  for (const uint64_t backend : {0, 4, 255})
    Refused({"back end", With(good, 37, backend, 1), 3, APERTURE_E_FIELD});
  Refused({"another back end's kinds", With(good, 37, 2, 1), 3, APERTURE_E_FIELD});
  Refused({"a device on the simulated host", With(LegacyOffer(), 37, 3, 1), 3, APERTURE_E_FIELD});
  Refused(
      {"no lease",
       Edited(good, [](Bytes* frame) { std::fill(frame->begin() + 16, frame->begin() + 32, uint8_t{0}); }), 3,
       APERTURE_E_FIELD});
  for (size_t i = 0; i < 3; i++) {
    const size_t at = 48 + 40 * i;
    for (const uint64_t kind : {0, 7, 256, 0xffff})
      Refused({"kind", With(good, at, kind, 2), 3, APERTURE_E_FIELD});
    for (const uint64_t scope : {0, 2, 4, 255})
      Refused({"scope", With(good, at + 2, scope, 1), 3, APERTURE_E_FIELD});
    Refused({"a number", With(good, at + 4, 0, 4), 3, APERTURE_E_FIELD});
    Refused({"an offset", With(good, at + 24, 1, 8), 3, APERTURE_E_FIELD});
    Refused({"a size", With(good, at + 32, 4096, 8), 3, APERTURE_E_FIELD});
  }
  Refused({"an address of the iommufd", WithText(good, 56, 16, kGpu), 3, APERTURE_E_TEXT});
  Refused({"the same device twice", WithText(good, 48 + 80 + 8, 16, kGpu), 3, APERTURE_E_FIELD});
  Refused(
      {"two iommufds", Offer(1, {{1, 3, kNone, "", 0, 0}, {1, 3, kNone, "", 0, 0}}), 2, APERTURE_E_FIELD});
  Refused({"a group without a number", With(LegacyOffer(), 48 + 40 + 4, kNone, 4), 3, APERTURE_E_FIELD});
  Refused({"a region without a number", With(SimulatedOffer(), 48 + 4, kNone, 4), 2, APERTURE_E_FIELD});
  Refused({"an empty region", With(SimulatedOffer(), 48 + 32, 0, 8), 2, APERTURE_E_FIELD});
  Refused(
      {"a region beyond off_t", With(SimulatedOffer(), 48 + 32, UINT64_C(1) << 63, 8), 2, APERTURE_E_FIELD});
  Refused(
      {"a region that wraps", With(SimulatedOffer(), 48 + 24, UINT64_MAX - 0xfff, 8), 2, APERTURE_E_FIELD});
}

TEST(client_refuses_what_is_no_address) {
  const std::string long_domain(9, '0');
  for (const std::string& text :
       {std::string(), std::string("0000:01:00"), std::string("000:01:00.0"), long_domain + ":0:0.",
        std::string("0000:01:00.8"), std::string("0000:01:20.0"), std::string("0000:0G:00.0"),
        std::string("0000:AB:00.0"), std::string("../../etc"), std::string("0000:01:00.0\n"),
        std::string("0000:01:00.0\0x", 14), std::string("0000-01-00.0"), std::string(16, '\xff'),
        std::string(16, '0'), std::string(1, 0) + "0000:01:00.0"})
    Refused({text.c_str(), WithText(IommufdOffer(), 48 + 40 + 8, 16, text), 3, APERTURE_E_TEXT});
  for (const std::string& text : {std::string("00000000:ff:1f.7"), std::string("10000:e1:00.0")}) {
    Peer peer;
    peer.Send(WithText(IommufdOffer(), 48 + 40 + 8, 16, text), 3);
    CHECK(peer.Receive() == 1 && text == peer.event.offer.descriptors[1].address);
    aperture_offer_close(&peer.event.offer);
  }
}

TEST(client_refuses_wrong_reasons_and_causes) {
  for (const uint8_t type : {kGoodbye, kRefused}) {
    for (const std::string& reason :
         {std::string(), std::string("lower"), std::string("A B"), std::string("A\x1b[31m"),
          std::string("\xc3\x84"), std::string("A\0B", 3)})
      Refused({"reason", WithReason(type, reason), 0, APERTURE_E_TEXT});
    Refused({"descriptor", WithReason(type, "DRAINING"), 1, APERTURE_E_DESCRIPTORS});
  }
  for (const Bytes& good : {Ended(), Recall(6, 1)}) {
    Refused({"cause 0", With(good, 32, 0, 4), 0, APERTURE_E_FIELD});
    Refused({"descriptors", good, 32, APERTURE_E_DESCRIPTORS});
    Refused({"no lease", With(With(good, 16, 0, 8), 24, 0, 8), 0, APERTURE_E_FIELD});
  }
}

TEST(client_wants_exactly_the_descriptors_of_the_offer) {
  for (size_t count = 0; count <= 40; count++)
    if (count != 3) Refused({"descriptors", IommufdOffer(), count, APERTURE_E_DESCRIPTORS});
  Refused({"as many as a message can have", IommufdOffer(), 253, APERTURE_E_DESCRIPTORS});
}

// What RLIMIT_NOFILE leaves room for, from nothing to one too few: all or nothing, and the daemon is told.
TEST(client_declines_an_offer_that_does_not_fit) {
  std::vector<Entry> entries = {{1, 3, kNone, "", 0, 0}};
  for (int i = 0; i < 7; i++) entries.push_back({2, 1, kNone, "0000:01:00." + std::to_string(i), 0, 0});
  const Bytes frame = Offer(1, entries);
  for (rlim_t room = 0; room <= 8; room++) {
    Peer peer;
    peer.Send(frame, entries.size());
    const int before = check::CountDescriptors();
    // The limit below which exactly so many numbers are free.
    std::vector<UniqueFd> taken;
    for (rlim_t i = 0; i <= room; i++) taken.emplace_back(dup(peer.far.get()));
    const rlim_t end = static_cast<rlim_t>(taken.back().get());
    taken.clear();
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit small = {end, limit.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &small) == 0);
    const int got = peer.Receive();
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(got == 1 && peer.channel.error == 0);
    const bool fits = room == 8;
    CHECK(peer.event.type == (fits ? APERTURE_EVENT_OFFER : APERTURE_EVENT_TRUNCATED));
    CHECK(check::CountDescriptors() == before + (fits ? 8 : 0));
    if (!fits)
      CHECK(peer.Read() == Ack(0) && peer.event.offer.descriptors[0].fd == -1 &&
            peer.event.lease.bytes[1] == 0x11);
    aperture_offer_close(&peer.event.offer);
    // The channel goes on.
    peer.Send(Ended(4));
    CHECK(peer.Receive() == 1 && peer.event.cause == APERTURE_CAUSE_SHORT_HANDOVER);
  }
}

TEST(client_paths_tickets_and_words) {
  char path[108];
  for (const char* target : {"/run/a.sock", "unix:/run/a.sock", "unix:///run/a.sock"})
    CHECK(aperture_channel_path(target, path, sizeof(path)) == 0 &&
          std::string(path) == "/run/a.sock.channel");
  CHECK(aperture_channel_path("a.sock", path, 14) == -ENAMETOOLONG &&
        aperture_channel_path("a.sock", path, 15) == 0);
  CHECK(aperture_channel_path(std::string(99, 'a').c_str(), path, sizeof(path)) == 0);
  char large[200];
  CHECK(aperture_channel_path(std::string(100, 'a').c_str(), large, sizeof(large)) == -ENAMETOOLONG);
  CHECK(aperture_channel_path("", path, sizeof(path)) == -EINVAL &&
        aperture_channel_path("unix:", path, sizeof(path)) == -EINVAL);
  aperture_channel channel;
  CHECK(aperture_attach_start(&channel, std::string(108, 'a').c_str()) == -ENAMETOOLONG && channel.fd == -1);
  CHECK(aperture_attach(&channel, "/nonexistent/a.sock", 0, nullptr) == -ENOENT);
  aperture_close(&channel);
  aperture_event event;
  CHECK(aperture_receive(&channel, &event, 0) == APERTURE_E_CLOSED);

  uint8_t ticket[16];
  for (const char* text : {"", "00112233445566778899aabbccddeef", "00112233445566778899aabbccddeefff",
                           "0011223344556677 899aabbccddeeff", "g0112233445566778899aabbccddeeff"})
    CHECK(aperture_ticket_parse(text, ticket) == -EINVAL);
  char text[128];
  for (int error = APERTURE_E_CLOSED; error >= APERTURE_E_HOLE; error--)
    CHECK(strlen(aperture_error_text(error, text, sizeof(text))) > 10 && strstr(text, "nknown") == nullptr);
  CHECK(std::string(aperture_error_text(-ENOENT, text, sizeof(text))) == strerror(ENOENT));
  CHECK(strlen(aperture_error_text(APERTURE_E_MAGIC, text, 8)) == 7);
  char id[37];
  aperture_lease_id lease;
  memcpy(lease.bytes, Ended().data() + 16, 16);
  aperture_lease_id_text(&lease, id);
  CHECK(std::string(id) == "00112233-4455-6677-8899-aabbccddeeff");
}

// Whatever comes, nothing leaks, and what is delivered is true of the bytes.
TEST(client_random_frames) {
  std::mt19937 random(20260101);
  const std::vector<Bytes> good = {Attached(),
                                   IommufdOffer(),
                                   LegacyOffer(),
                                   SimulatedOffer(),
                                   Ended(),
                                   Recall(8, 99),
                                   WithReason(kGoodbye, "DRAINING"),
                                   WithReason(kRefused, "TICKET_USED")};
  int delivered = 0;
  constexpr int kRounds = 8000;
  const int before = check::CountDescriptors();
  for (int round = 0; round < kRounds; round++) {
    Bytes frame = good[random() % good.size()];
    Peer peer(frame[5] != kAttached);
    const size_t offered = frame[5] == kOffer ? frame[32] : 0;
    for (int edits = static_cast<int>(random() % 3); edits > 0; edits--)
      frame[random() % frame.size()] = static_cast<uint8_t>(random());
    if (random() % 8 == 0) frame.resize(1 + random() % 200);
    peer.Send(frame, random() % 8 == 0 ? random() % 40 : offered);
    const int got = peer.Receive();
    if (got == 1) {
      delivered++;
      CHECK(frame.size() >= 16 && memcmp(frame.data(), "APTR\1", 5) == 0 &&
            frame[8] + 256u * frame[9] == frame.size());
      if (peer.event.type == APERTURE_EVENT_OFFER) {
        CHECK(peer.event.offer.count == frame[32] && frame.size() == 48 + 40u * frame[32]);
        aperture_offer_close(&peer.event.offer);
      }
    } else {
      CHECK(got < 0 && peer.channel.error == got);
    }
    aperture_close(&peer.channel);
    peer.far.reset();
    if (!CHECK(check::CountDescriptors() == before)) return;
  }
  // Both outcomes must be frequent, or the loop tests nothing.
  CHECK(delivered > kRounds / 10 && delivered < kRounds * 9 / 10);
}

}  // namespace
}  // namespace aperture::client_test
