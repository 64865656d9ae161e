// As much of protobuf as a load client needs: what it sends is written by hand, what it receives is walked
// field by field. No generated code, so that the client costs the same whoever serves.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace bench {

inline void PutVarint(std::string* out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

inline void PutNumber(std::string* out, uint32_t field, uint64_t value) {
  PutVarint(out, field << 3);
  PutVarint(out, value);
}

inline void PutBytes(std::string* out, uint32_t field, std::string_view bytes) {
  PutVarint(out, (field << 3) | 2);
  PutVarint(out, bytes.size());
  out->append(bytes);
}

// The fields of one message, in order. Ends (Next false) at the end and at anything that is no protobuf.
class Fields {
 public:
  explicit Fields(std::string_view message) : rest_(message) {}

  bool Next() {
    uint64_t tag = 0;
    if (rest_.empty() || !Varint(&tag)) return false;
    field_ = static_cast<uint32_t>(tag >> 3);
    bytes_ = {};
    number_ = 0;
    switch (tag & 7) {
      case 0:
        return Varint(&number_);
      case 1:
        return Take(8);
      case 2: {
        uint64_t length = 0;
        return Varint(&length) && Take(length);
      }
      case 5:
        return Take(4);
      default:
        return false;
    }
  }

  uint32_t field() const { return field_; }
  uint64_t number() const { return number_; }
  std::string_view bytes() const { return bytes_; }

 private:
  bool Varint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return true;
    }
    return false;
  }

  bool Take(uint64_t length) {
    if (length > rest_.size()) return false;
    bytes_ = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }

  std::string_view rest_;
  std::string_view bytes_;
  uint64_t number_ = 0;
  uint32_t field_ = 0;
};

}  // namespace bench
