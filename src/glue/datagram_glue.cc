#include "glue/datagram_glue.h"

#include <errno.h>
#include <string.h>

#include <memory>

#include "conntrack/deletions.h"
#include "conntrack/flow_probe.h"
#include "datagram/datagram.h"
#include "glue/arguments.h"
#include "glue/readiness.h"
#include "glue/shared_memory.h"
#include "namespace/inside.h"
#include "socket/socket_options.h"

namespace original_dst {

// The UDP sockets of one environment, the buffers that they share, and who waits for all of them.
class DatagramHub : public Napi::ObjectWrap<DatagramHub> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "DatagramHub",
                       {
                           InstanceMethod("open", &DatagramHub::Open),
                           InstanceMethod("receive", &DatagramHub::Receive),
                           InstanceMethod("copy", &DatagramHub::Copy),
                           InstanceMethod("arm", &DatagramHub::Arm),
                           InstanceMethod("rest", &DatagramHub::Rest),
                           InstanceMethod("send", &DatagramHub::Send),
                           InstanceMethod("drops", &DatagramHub::Drops),
                           InstanceMethod("fd", &DatagramHub::Fd),
                           InstanceMethod("untracked", &DatagramHub::Untracked),
                           InstanceMethod("watch", &DatagramHub::Watch),
                           InstanceMethod("deletions", &DatagramHub::TakeDeletions),
                           InstanceMethod("close", &DatagramHub::Close),
                           InstanceMethod("ref", &DatagramHub::Ref),
                       });
  }

  // (onReady: (slot) => void, is this Node?). Afterwards `status` is 0 or -errno, `records` the
  // memory that open() and receive() fill, and `repeats` says whether "ready" is said again without
  // arm().
  explicit DatagramHub(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<DatagramHub>(info), env_(info.Env()) {
    records_ = static_cast<Records*>(shared_memory(env_, sizeof(Records), &records_reference_));
    int status = records_ != nullptr && buffers_.allocate() ? 0 : -ENOMEM;
    if (status == 0) status = readiness_.start(env_, info[0], flag_argument(info, 1), Stop, this);
    Napi::Object self = info.This().As<Napi::Object>();
    if (records_ != nullptr) self.Set("records", records_reference_.Value());
    self.Set("status", Napi::Number::New(env_, status));
    self.Set("repeats", Napi::Boolean::New(env_, readiness_.repeats()));
  }

 private:
  // Shared with TypeScript. `opened` is apart from the batch: a handler may open a socket while the
  // datagrams behind its own are still to be read.
  struct Records {
    Datagram batch[kBatch];
    Datagram opened;
    Datagram deleted[kBatch];  // an entry's two ends, as of a datagram that came through it
  };

  struct Slot {
    OwnedFd fd;
    bool v6 = false;
    bool elsewhere = false;  // not certainly in this thread's network namespace
    Readiness::Watch watch;
    size_t limit = 0;
    std::unique_ptr<Deletions> deletions;
  };

  // The environment ends: nothing is said to be readable any more, and nothing stays open.
  static void Stop(void* self) {
    DatagramHub* const hub = static_cast<DatagramHub*>(self);
    hub->slots_.reset();
    hub->capacity_ = 0;
  }

  Napi::Value Status(int status) { return Napi::Number::New(env_, status); }

  // The open socket that the first argument names, or null.
  Slot* SlotArgument(const Napi::CallbackInfo& info) {
    if (!info[0].IsNumber()) return nullptr;
    const uint32_t index = info[0].As<Napi::Number>().Uint32Value();
    return index < capacity_ && slots_[index].fd.valid() ? &slots_[index] : nullptr;
  }

  uint32_t FreeSlot() {
    uint32_t index = 0;
    while (index < capacity_ && slots_[index].fd.valid()) index++;
    if (index < capacity_) return index;
    const uint32_t capacity = capacity_ == 0 ? 8 : capacity_ * 2;
    std::unique_ptr<Slot[]> grown(new Slot[capacity]);
    for (uint32_t i = 0; i < capacity_; i++) grown[i] = std::move(slots_[i]);
    slots_ = std::move(grown);
    capacity_ = capacity;
    return index;
  }

  // (address, port, transparent, ipv6Only, reuseAddress, mark, receiveBuffer, limit, network
  // namespace | -1, a bound socket | -1, gro) → slot or -errno. The last record then holds the
  // bound address as source, or the failed step as size. The bound socket is the slot's if all goes
  // well.
  Napi::Value Open(const Napi::CallbackInfo& info) {
    Endpoint address;
    const int parsed = endpoint_argument(info, 0, &address);
    if (parsed != 0) return Status(parsed);
    const DatagramOptions options = {flag_argument(info, 2),   flag_argument(info, 3),
                                     flag_argument(info, 4),   flag_argument(info, 10),
                                     number_argument(info, 5), number_argument(info, 6),
                                     fd_argument(info, 8)};
    Datagram& record = records_->opened;
    OpenStep step;
    OwnedFd fd;
    const int given = fd_argument(info, 9);
    bool v6 = address.family == 6;
    int status = given < 0 ? open_datagram_socket(options, address, &fd, &record.source, &step)
                           : adopt_datagram_socket(given, options, &fd, &record.source, &v6, &step);
    record.size = static_cast<uint32_t>(step);
    if (status != 0) return Status(status);
    const uint32_t index = FreeSlot();
    Readiness::Watch watch;
    status = readiness_.add(fd.get(), index, &watch);
    if (status != 0 && given >= 0) {
      fd.release();
      record.size = static_cast<uint32_t>(OpenStep::kAdopt);
    }
    if (status != 0) return Status(status);
    const uint32_t limit = number_argument(info, 7);
    slots_[index].fd = std::move(fd);
    slots_[index].v6 = v6;
    slots_[index].elsewhere = options.where >= 0 || given >= 0;
    slots_[index].watch = watch;
    slots_[index].limit = limit < kMaxDatagram ? limit : kMaxDatagram;
    return Status(static_cast<int>(index));
  }

  // (slot) → how many datagrams are in records, or -errno
  Napi::Value Receive(const Napi::CallbackInfo& info) {
    const Slot* slot = SlotArgument(info);
    if (slot == nullptr) return Status(-EBADF);
    const int count = buffers_.receive_batch(slot->fd.get(), slot->limit, records_->batch);
    received_ = count > 0 ? static_cast<uint32_t>(count) : 0;
    return Status(count);
  }

  // (Uint8Array) → 0 or -errno; writes the bytes of the last batch, all of them behind each other
  Napi::Value Copy(const Napi::CallbackInfo& info) {
    if (!info[0].IsTypedArray()) return Status(-EINVAL);
    Napi::Uint8Array to = info[0].As<Napi::Uint8Array>();
    const Datagram* batch = records_->batch;
    // records is open to JavaScript: what it says is believed only as far as it fits.
    size_t offset = 0;
    for (uint32_t i = 0; i < received_; i++) {
      if (batch[i].kept > kMaxDatagram || batch[i].offset != offset) return Status(-EINVAL);
      offset += batch[i].kept;
    }
    if (offset > to.ByteLength()) return Status(-EINVAL);
    buffers_.copy_batch(batch, received_, to.Data());
    return Status(0);
  }

  // (slot): it is not said to be readable any more, until arm(). Without `repeats` it is not
  // anyhow.
  void Rest(const Napi::CallbackInfo& info) {
    const Slot* slot = SlotArgument(info);
    if (slot != nullptr) readiness_.rest(slot->watch);
  }

  // (slot) → 0 or -errno
  Napi::Value Arm(const Napi::CallbackInfo& info) {
    const Slot* slot = SlotArgument(info);
    return Status(slot == nullptr ? -EBADF : readiness_.arm(slot->fd.get(), slot->watch));
  }

  // (slot, Uint8Array, address, port, source address or undefined, is that an alias?, length of
  // each datagram or 0) → 0 or -errno
  Napi::Value Send(const Napi::CallbackInfo& info) {
    const Slot* slot = SlotArgument(info);
    if (slot == nullptr) return Status(-EBADF);
    if (!info[1].IsTypedArray() || !info[2].IsString()) return Status(-EINVAL);
    const Napi::Uint8Array data = info[1].As<Napi::Uint8Array>();
    Endpoint to;
    Endpoint source;
    int status = endpoint_argument(info, 2, &to);
    if (status == 0) status = endpoint_argument(info, 4, &source);
    if (status != 0) return Status(status);
    const auto transmit = flag_argument(info, 5) ? send_from_alias : send_datagram;
    const Payload payload = {data.Data(), data.ByteLength(), number_argument(info, 6)};
    return Status(transmit(slot->fd.get(), slot->v6, payload, to, source));
  }

  // (slot) → its descriptor, which stays the slot's, or -EBADF
  Napi::Value Fd(const Napi::CallbackInfo& info) {
    const Slot* slot = SlotArgument(info);
    return Status(slot == nullptr ? -EBADF : slot->fd.get());
  }

  // (slot) → how many datagrams the kernel has dropped, or -errno
  Napi::Value Drops(const Napi::CallbackInfo& info) {
    const Slot* slot = SlotArgument(info);
    if (slot == nullptr) return Status(-EBADF);
    uint32_t drops = 0;
    const int status = socket_drops(slot->fd.get(), &drops);
    return status != 0 ? Status(status) : Napi::Number::New(env_, drops);
  }

  // (slot, family: 4 | 6) → is it certain that no flow is tracked where the socket is? See
  // FlowProbe.
  Napi::Value Untracked(const Napi::CallbackInfo& info) {
    const Slot* slot = SlotArgument(info);
    const bool here = slot != nullptr && !slot->elsewhere;
    const int family = number_argument(info, 1) == 6 ? 6 : 4;
    return Napi::Boolean::New(env_, here && probe_.leaves_none(family));
  }

  // (slot, port) → 0 or -errno: from now on the slot tells which entries of flows to that port go
  Napi::Value Watch(const Napi::CallbackInfo& info) {
    Slot* slot = SlotArgument(info);
    if (slot == nullptr) return Status(-EBADF);
    std::unique_ptr<Deletions> deletions(new Deletions);
    const auto port = static_cast<uint16_t>(number_argument(info, 1));
    int answer = 0;
    int status = at(slot->fd.get(), [&] { answer = deletions->start(port); });
    if (status == 0) status = answer;
    if (status == 0) slot->deletions = std::move(deletions);
    return Status(status);
  }

  // (slot) → how many that have gone are in records now, kBatch if there may be more; or -errno
  Napi::Value TakeDeletions(const Napi::CallbackInfo& info) {
    const Slot* slot = SlotArgument(info);
    if (slot == nullptr || slot->deletions == nullptr) return Status(-EBADF);
    for (unsigned count = 0; count < kBatch; count++) {
      Datagram& entry = records_->deleted[count];
      const int more = slot->deletions->next(&entry.destination, &entry.source);
      if (more != 1) return Status(more < 0 ? more : static_cast<int>(count));
    }
    return Status(kBatch);
  }

  // (slot) → 0 or -errno
  Napi::Value Close(const Napi::CallbackInfo& info) {
    Slot* slot = SlotArgument(info);
    if (slot == nullptr) return Status(-EBADF);
    // Closing alone is not enough while a child process that is being started shares the socket.
    readiness_.remove(slot->fd.get(), slot->watch);
    slot->fd.reset();
    slot->deletions.reset();
    return Status(0);
  }

  // (on): do the sockets keep the event loop alive?
  void Ref(const Napi::CallbackInfo& info) { readiness_.ref(flag_argument(info, 0)); }

  Napi::Env env_;
  Records* records_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> records_reference_;
  uint32_t received_ = 0;
  ReceiveBuffers buffers_;
  std::unique_ptr<Slot[]> slots_;
  uint32_t capacity_ = 0;
  FlowProbe probe_;
  Readiness readiness_;
};

void init_datagram(Napi::Env env, Napi::Object exports) {
  exports.Set("DatagramHub", DatagramHub::Define(env));
}

}  // namespace original_dst
