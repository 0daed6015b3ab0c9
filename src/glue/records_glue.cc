// The part of the relay's Node-API side that tells of connections that are over.
#include <errno.h>

#include <string>

#include "glue/arguments.h"
#include "glue/relay_glue.h"
#include "glue/shared_memory.h"
#include "relay/histogram.h"
#include "relay/record.h"
#include "relay/timers.h"

namespace original_dst {

namespace {

// The order of the numbers is that of lib/relay/native-records.ts.
constexpr size_t kRecordNumbers = 13;
constexpr size_t kRecordsAtOnce = 256;

void append_address(const Endpoint& endpoint, std::string* text) {
  char address[kAddressTextSize];
  if (endpoint.family != 0) text->append(address, endpoint_text(endpoint, address));
  text->push_back('\n');
}

void write_record(const Record& one, uint64_t now_us, double* numbers, std::string* text) {
  const double values[kRecordNumbers] = {static_cast<double>(now_us - one.accepted_us) / 1000,
                                         static_cast<double>(one.over_us - one.accepted_us) / 1000,
                                         one.dial_us < 0 ? -1 : one.dial_us / 1000,
                                         static_cast<double>(one.client.port),
                                         static_cast<double>(one.destination.port),
                                         static_cast<double>(one.kind),
                                         static_cast<double>(one.verdict),
                                         static_cast<double>(one.outcome),
                                         static_cast<double>(one.side),
                                         static_cast<double>(one.error),
                                         static_cast<double>(one.to_upstream),
                                         static_cast<double>(one.to_client),
                                         static_cast<double>(one.protocol)};
  for (size_t i = 0; i < kRecordNumbers; i++) numbers[i] = values[i];
  append_address(one.client, text);
  append_address(one.destination, text);
  if (one.name_length > 0) text->append(one.name.get(), one.name_length);
  text->push_back('\n');
}

Napi::Array bounds(Napi::Env env, const uint64_t (&all)[kBounds]) {
  const Napi::Array array = Napi::Array::New(env, kBounds);
  for (uint32_t i = 0; i < kBounds; i++) {
    array.Set(i, Napi::Number::New(env, static_cast<double>(all[i])));
  }
  return array;
}

}  // namespace

Napi::Value RelayGlue::SetRecords(const Napi::CallbackInfo& info) {
  RelayListener* const listener = Listener(info, 0);
  if (listener == nullptr) return Status(-EINVAL);
  if (record_numbers_ == nullptr) {
    const size_t size = kRecordsAtOnce * kRecordNumbers * sizeof(double);
    record_numbers_ = static_cast<double*>(shared_memory(env_, size, &record_buffer_));
    if (record_numbers_ == nullptr) return Status(-ENOMEM);
  }
  const bool on = info[1].IsFunction();
  Napi::FunctionReference& callback = listeners_[listener->id].on_records;
  if (on) callback = Napi::Persistent(info[1].As<Napi::Function>());
  listener->set_recorded(on);
  return record_buffer_.Value();
}

// Those of one listener at a time, in the order in which they ended.
void RelayGlue::DrainRecords(Records* records) {
  const uint64_t now_us = monotonic_us();
  while (records->first() != nullptr) {
    const Napi::HandleScope scope(env_);
    const RelayListener* const listener = records->first()->listener;
    std::string text;
    uint32_t count = 0;
    while (count < kRecordsAtOnce && records->first() != nullptr &&
           records->first()->listener == listener) {
      write_record(*records->shift(), now_us, record_numbers_ + count * kRecordNumbers, &text);
      count++;
    }
    listeners_[listener->id].on_records.Call(
        {Napi::Number::New(env_, count), Napi::String::New(env_, text)});
  }
}

Napi::Value RelayGlue::Bounds(const Napi::CallbackInfo&) {
  const Napi::Array both = Napi::Array::New(env_, 2);
  both.Set(0U, bounds(env_, kDialBounds));
  both.Set(1U, bounds(env_, kDurationBounds));
  return both;
}

}  // namespace original_dst
