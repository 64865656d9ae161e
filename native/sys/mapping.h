// A padded aperture in our address space. Three things are kept apart because they end at different times:
// the device mapping (ends at close, which is what gives the device back), the address range (ends when
// nobody can touch it any more, views included), and the facts about both.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sys/mapping_plan.h"
#include "sys/result.h"

namespace aperture {

// An address range of ours, all PROT_NONE at first. Shared by the mapping and its views.
class Reservation {
 public:
  // A range of `length` whose base is congruent with `offset` modulo `alignment`. Null and *error on failure.
  static std::shared_ptr<Reservation> Make(uint64_t length, uint64_t alignment, uint64_t offset, int* error);
  ~Reservation();
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  uint8_t* base() const { return base_; }
  // Puts PROT_NONE over everything: what was mapped is gone, the addresses stay taken. 0 or errno.
  int Revoke();

 private:
  Reservation(uint8_t* base, uint64_t length) : base_(base), length_(length) {}
  uint8_t* const base_;
  const uint64_t length_;
};

class Mapping {
 public:
  // Blocks: mapping may wake or wait for the device. fd is used during the call only.
  static Result<std::shared_ptr<Mapping>> Map(int fd, uint64_t fd_offset, uint64_t size,
                                              const std::vector<RegionArea>& areas, bool write,
                                              const std::string& subject);

  uint64_t size() const { return plan_.size; }
  const std::shared_ptr<Reservation>& reservation() const { return reservation_; }
  // Whether [offset, offset + length) lies in one area, and so may be looked at directly.
  bool InOneArea(uint64_t offset, uint64_t length) const;

  // [offset, offset + length) lies within size. Both block when the device does. A hole between two areas (an
  // MSI-X table) is neither memory nor tail: touching it is an error before anything is copied.
  Result<std::vector<uint8_t>> Read(uint64_t offset, size_t length) const;
  Result<None> Write(uint64_t offset, const std::vector<uint8_t>& data) const;
  // Ends the device mapping. Not while Read or Write runs.
  Result<None> Unmap();

 private:
  Mapping(MappingPlan plan, std::shared_ptr<Reservation> reservation, bool write, std::string subject)
      : plan_(std::move(plan)),
        reservation_(std::move(reservation)),
        write_(write),
        subject_(std::move(subject)) {}
  const char* Forbidden(uint64_t offset, uint64_t length, uint64_t* where) const;
  std::string At(uint64_t offset) const;

  const MappingPlan plan_;
  const std::shared_ptr<Reservation> reservation_;
  const bool write_;
  const std::string subject_;
};

}  // namespace aperture
