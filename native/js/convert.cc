#include "js/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

namespace aperture {

std::string Args::Where(size_t index, const char* name) const {
  return std::string(call_) + " argument " + std::to_string(index + 1) + " (" + name + "): expected ";
}

void Args::TypeFault(size_t index, const char* name, const std::string& expected) const {
  throw Napi::TypeError::New(env(), Where(index, name) + expected);
}

void Args::RangeFault(size_t index, const char* name, const std::string& expected) const {
  throw Napi::RangeError::New(env(), Where(index, name) + expected);
}

int64_t Args::Integer(size_t index, const char* name, int64_t low, int64_t high) const {
  const Napi::Value value = info_[index];
  if (!value.IsNumber()) TypeFault(index, name, "an integer");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!std::isfinite(number) || std::trunc(number) != number) TypeFault(index, name, "an integer");
  if (number < static_cast<double>(low) || number > static_cast<double>(high))
    RangeFault(index, name, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return static_cast<int64_t>(number);
}

int Args::Descriptor(size_t index, const char* name) const {
  return static_cast<int>(Integer(index, name, 0, INT32_MAX));
}

uint32_t Args::Uint32(size_t index, const char* name) const {
  return static_cast<uint32_t>(Integer(index, name, 0, UINT32_MAX));
}

uint64_t Args::Uint64(size_t index, const char* name, uint64_t high) const {
  const Napi::Value value = info_[index];
  if (!value.IsBigInt()) TypeFault(index, name, "a bigint");
  bool lossless = false;
  const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless || number > high) RangeFault(index, name, "a bigint from 0 to " + std::to_string(high));
  return number;
}

bool Args::Boolean(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsBoolean()) TypeFault(index, name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string Args::Text(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsString()) TypeFault(index, name, "a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) RangeFault(index, name, "a string without NUL");
  return text;
}

std::string Args::FileName(size_t index, const char* name) const {
  std::string text = Text(index, name);
  if (text.empty() || text == "." || text == ".." || text.find('/') != std::string::npos)
    RangeFault(index, name, "the name of a file in its directory");
  return text;
}

Access Args::Access(size_t index, const char* name) const {
  const std::string text = Text(index, name);
  if (text == "read") return Access::kRead;
  if (text == "write") return Access::kWrite;
  if (text == "readwrite") return Access::kReadWrite;
  RangeFault(index, name, "\"read\", \"write\" or \"readwrite\"");
}

std::vector<uint8_t> Args::Bytes(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    TypeFault(index, name, "a Uint8Array");
  const Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  if (array.ByteLength() > static_cast<size_t>(kMaxTransfer))
    RangeFault(index, name, "at most " + std::to_string(kMaxTransfer) + " bytes");
  // The data pointer of an empty or detached array is null.
  std::vector<uint8_t> bytes(array.ByteLength());
  if (!bytes.empty()) memcpy(bytes.data(), array.Data(), bytes.size());
  return bytes;
}

std::vector<int> Args::Descriptors(size_t index, const char* name, size_t most) const {
  const Napi::Value value = info_[index];
  const std::string expected = "an array of at most " + std::to_string(most) + " descriptors";
  if (!value.IsArray()) TypeFault(index, name, expected);
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > most) RangeFault(index, name, expected);
  std::vector<int> descriptors;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value item = array.Get(i);
    const double number = item.IsNumber() ? item.As<Napi::Number>().DoubleValue() : -1;
    if (!(number >= 0 && number <= INT32_MAX) || std::trunc(number) != number)
      TypeFault(index, name, expected);
    descriptors.push_back(static_cast<int>(number));
  }
  return descriptors;
}

std::vector<RegionArea> Args::Areas(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  const std::string expected = "an array of { offset: bigint, size: bigint }";
  if (!value.IsArray()) TypeFault(index, name, expected);
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<RegionArea> areas;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value item = array.Get(i);
    if (!item.IsObject()) TypeFault(index, name, expected);
    uint64_t part[2];
    for (int field = 0; field < 2; field++) {
      const Napi::Value number = item.As<Napi::Object>().Get(field == 0 ? "offset" : "size");
      bool lossless = false;
      if (!number.IsBigInt()) TypeFault(index, name, expected);
      part[field] = number.As<Napi::BigInt>().Uint64Value(&lossless);
      if (!lossless) RangeFault(index, name, expected);
    }
    areas.push_back({part[0], part[1]});
  }
  return areas;
}

std::vector<std::string> Args::Paths(size_t index, const char* name, size_t most) const {
  const Napi::Value value = info_[index];
  const std::string expected = "an array of at most " + std::to_string(most) + " paths";
  if (!value.IsArray()) TypeFault(index, name, expected);
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > most) RangeFault(index, name, expected);
  std::vector<std::string> paths;
  paths.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value item = array.Get(i);
    if (!item.IsString()) TypeFault(index, name, expected);
    std::string path = item.As<Napi::String>().Utf8Value();
    // An absolute one would not be below the parent.
    if (path.empty() || path[0] == '/' || path.find('\0') != std::string::npos)
      RangeFault(index, name, "relative paths without NUL");
    paths.push_back(std::move(path));
  }
  return paths;
}

std::vector<Entry> Args::Entries(size_t index, const char* name, size_t most) const {
  const Napi::Value value = info_[index];
  const std::string expected = "an array of at most " + std::to_string(most) +
                               " { kind: \"text\" | \"link\" | \"names\" | \"inode\", name: string }";
  if (!value.IsArray()) TypeFault(index, name, expected);
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > most) RangeFault(index, name, expected);
  std::vector<Entry> entries;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value item = array.Get(i);
    if (!item.IsObject()) TypeFault(index, name, expected);
    const Napi::Value kind = item.As<Napi::Object>().Get("kind");
    const Napi::Value entry = item.As<Napi::Object>().Get("name");
    if (!kind.IsString() || !entry.IsString()) TypeFault(index, name, expected);
    static constexpr std::pair<const char*, EntryKind> kKinds[] = {{"text", EntryKind::kText},
                                                                   {"link", EntryKind::kLink},
                                                                   {"names", EntryKind::kNames},
                                                                   {"inode", EntryKind::kInode}};
    const std::string word = kind.As<Napi::String>().Utf8Value();
    const std::string path = entry.As<Napi::String>().Utf8Value();
    if ((!path.empty() && path[0] == '/') || path.find('\0') != std::string::npos)
      RangeFault(index, name, "relative names without NUL");
    const auto* const found = std::find_if(std::begin(kKinds), std::end(kKinds),
                                           [&](const auto& known) { return word == known.first; });
    if (found == std::end(kKinds)) RangeFault(index, name, expected);
    entries.push_back({found->second, path});
  }
  return entries;
}

Napi::Function Args::Function(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsFunction()) TypeFault(index, name, "a function");
  return value.As<Napi::Function>();
}

Napi::Value ToJs(Napi::Env env, None&) {
  return env.Null();
}
Napi::Value ToJs(Napi::Env env, bool& value) {
  return Napi::Boolean::New(env, value);
}
Napi::Value ToJs(Napi::Env env, int& value) {
  return Napi::Number::New(env, value);
}
Napi::Value ToJs(Napi::Env env, uint32_t& value) {
  return Napi::Number::New(env, value);
}
Napi::Value ToJs(Napi::Env env, size_t& value) {
  return Napi::Number::New(env, static_cast<double>(value));
}
Napi::Value ToJs(Napi::Env env, UniqueFd& value) {
  return Napi::Number::New(env, value.release());
}

Napi::Value ToJs(Napi::Env env, std::vector<uint8_t>& value) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, value.size());
  if (!value.empty()) memcpy(array.Data(), value.data(), value.size());
  return array;
}

Napi::Value ToJs(Napi::Env env, std::vector<uint32_t>& value) {
  Napi::Array array = Napi::Array::New(env, value.size());
  for (size_t i = 0; i < value.size(); i++) array.Set(static_cast<uint32_t>(i), value[i]);
  return array;
}

Napi::Value ToJs(Napi::Env env, Program& value) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("executable", ToJs(env, value.executable));
  object.Set("executableError", value.exe_error);
  object.Set("device", Napi::BigInt::New(env, value.device));
  object.Set("inode", Napi::BigInt::New(env, value.inode));
  object.Set("cgroup", ToJs(env, value.cgroup));
  object.Set("cgroupError", value.cgroup_error);
  return object;
}

Napi::Value ToJs(Napi::Env env, DeviceFacts& value) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("flags", value.flags);
  object.Set("numRegions", value.num_regions);
  object.Set("numIrqs", value.num_irqs);
  return object;
}

Napi::Value ToJs(Napi::Env env, RegionFacts& value) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("index", value.index);
  object.Set("flags", value.flags);
  object.Set("size", Napi::BigInt::New(env, value.size));
  object.Set("offset", Napi::BigInt::New(env, value.offset));
  object.Set("sparse", env.Null());
  if (value.caps.has_sparse) {
    Napi::Array areas = Napi::Array::New(env, value.caps.sparse.size());
    for (size_t i = 0; i < value.caps.sparse.size(); i++) {
      Napi::Object area = Napi::Object::New(env);
      area.Set("offset", Napi::BigInt::New(env, value.caps.sparse[i].offset));
      area.Set("size", Napi::BigInt::New(env, value.caps.sparse[i].size));
      areas.Set(static_cast<uint32_t>(i), area);
    }
    object.Set("sparse", areas);
  }
  object.Set("type", env.Null());
  if (value.caps.has_type) {
    Napi::Object type = Napi::Object::New(env);
    type.Set("type", value.caps.type);
    type.Set("subtype", value.caps.subtype);
    object.Set("type", type);
  }
  object.Set("msixMappable", value.caps.msix_mappable);
  return object;
}

Napi::Value ToJs(Napi::Env env, IrqFacts& value) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("index", value.index);
  object.Set("flags", value.flags);
  object.Set("count", value.count);
  return object;
}

Napi::Value ToJs(Napi::Env env, MigrationFacts& value) {
  return Napi::BigInt::New(env, value.flags);
}

Napi::Value ToJs(Napi::Env env, IommuFacts& value) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("kind", value.kind);
  object.Set("capabilities", Napi::BigInt::New(env, value.capabilities));
  object.Set("maxPasidLog2", value.max_pasid_log2);
  object.Set("data", ToJs(env, value.data));
  return object;
}

Napi::Value ToJs(Napi::Env env, std::vector<ResetFunction>& value) {
  Napi::Array functions = Napi::Array::New(env, value.size());
  for (size_t i = 0; i < value.size(); i++) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("segment", value[i].segment);
    object.Set("bus", value[i].bus);
    object.Set("devfn", value[i].devfn);
    functions.Set(static_cast<uint32_t>(i), object);
  }
  return functions;
}

Napi::Value ToJs(Napi::Env env, Peer& value) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("pid", value.pid);
  object.Set("uid", value.uid);
  object.Set("gid", value.gid);
  object.Set("pidfd", ToJs(env, value.pidfd));
  return object;
}

Napi::Value ToJs(Napi::Env env, Listener& value) {
  Napi::Array pair = Napi::Array::New(env, 2);
  pair.Set(0u, ToJs(env, value.fd));
  pair.Set(1u, Napi::BigInt::New(env, value.inode));
  return pair;
}

Napi::Value ToJs(Napi::Env env, ReceivedFrame& value) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("frame", ToJs(env, value.bytes));
  Napi::Array descriptors = Napi::Array::New(env, value.descriptors.size());
  for (size_t i = 0; i < value.descriptors.size(); i++)
    descriptors.Set(static_cast<uint32_t>(i), ToJs(env, value.descriptors[i]));
  object.Set("descriptors", descriptors);
  object.Set("truncated", value.truncated);
  return object;
}

Napi::Value ToJs(Napi::Env env, std::pair<uint64_t, uint64_t>& value) {
  Napi::Array pair = Napi::Array::New(env, 2);
  pair.Set(0u, Napi::BigInt::New(env, value.first));
  pair.Set(1u, Napi::BigInt::New(env, value.second));
  return pair;
}

Napi::Value ToJs(Napi::Env env, UeventBatch& value) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Array messages = Napi::Array::New(env, value.messages.size());
  for (size_t i = 0; i < value.messages.size(); i++)
    messages.Set(static_cast<uint32_t>(i), ToJs(env, value.messages[i]));
  object.Set("messages", messages);
  object.Set("lost", value.lost);
  object.Set("drained", value.drained);
  object.Set("foreign", static_cast<double>(value.foreign));
  return object;
}

Napi::Value ToJs(Napi::Env env, std::vector<FileEvent>& value) {
  Napi::Array events = Napi::Array::New(env, value.size());
  for (size_t i = 0; i < value.size(); i++) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("watch", value[i].watch);
    event.Set("mask", value[i].mask);
    events.Set(static_cast<uint32_t>(i), event);
  }
  return events;
}

Napi::Value ErrorToJs(Napi::Env env, const SysError& error) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("operation", error.operation);
  object.Set("errno", error.number);
  object.Set("code", error.code);
  object.Set("subject", error.subject);
  return object;
}

}  // namespace aperture
