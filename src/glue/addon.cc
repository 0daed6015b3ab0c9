// Node-API glue: arguments in, values out, no policy. Every method answers 0 (or a value) or -errno
// as a number; lib/errors.ts makes errors of those, so that there is one place which does.
#include <errno.h>
#include <napi.h>
#include <sys/socket.h>

// After <sys/socket.h>, in a block of its own.
#include <linux/netlink.h>

#include "conntrack/activity.h"
#include "conntrack/conntrack.h"
#include "glue/arguments.h"
#include "glue/datagram_glue.h"
#include "glue/dial_glue.h"
#include "glue/ebpf_glue.h"
#include "glue/kernel_answer.h"
#include "glue/loop_glue.h"
#include "glue/names_glue.h"
#include "glue/namespace_glue.h"
#include "glue/proxy_header_glue.h"
#include "glue/refusal_glue.h"
#include "glue/relay_glue.h"
#include "glue/shared_memory.h"
#include "host/cgroup_bpf.h"
#include "host/file_lock.h"
#include "host/interface_address.h"
#include "host/origin.h"
#include "host/service_notify.h"
#include "namespace/inside.h"
#include "socket/certain_destination.h"
#include "socket/endpoint.h"
#include "socket/original_dst.h"
#include "socket/owned_fd.h"
#include "socket/socket_options.h"

namespace original_dst {

// One instance per environment (worker threads load the addon again): all state is in members.
class Addon : public Napi::Addon<Addon> {
 public:
  Addon(Napi::Env env, Napi::Object exports) {
    // Shared with lib/binding.ts; lives as long as this instance, which outlives every call.
    answer_ = static_cast<KernelAnswer*>(shared_memory(env, sizeof(KernelAnswer), &answer_buffer_));
    if (answer_ == nullptr) return;  // and nothing is exported
    DefineAddon(exports, {
                             InstanceValue("kernelAnswer", answer_buffer_.Value()),
                             InstanceMethod("getOriginalDst", &Addon::GetOriginalDst),
                             InstanceMethod("readFacts", &Addon::ReadFacts),
                             InstanceMethod("checkMptcpEntry", &Addon::CheckMptcpEntry),
                             InstanceMethod("confirmEntry", &Addon::ConfirmEntry),
                             InstanceMethod("addressText", &Addon::AddressText),
                             InstanceMethod("certainDestination", &Addon::CertainDestination),
                             InstanceMethod("canonicalAddress", &Addon::CanonicalAddress),
                             InstanceMethod("conntrackActive", &Addon::ConntrackActive),
                             InstanceMethod("conntrackForget", &Addon::ConntrackForget),
                             InstanceMethod("conntrackLookup", &Addon::ConntrackLookup),
                             InstanceMethod("conntrackSource", &Addon::ConntrackSource),
                             InstanceMethod("isInterfaceAddress", &Addon::IsInterfaceAddress),
                             InstanceMethod("setTransparent", &Addon::SetTransparent),
                             InstanceMethod("getTransparent", &Addon::GetTransparent),
                             InstanceMethod("setFreebind", &Addon::SetFreebind),
                             InstanceMethod("setMark", &Addon::SetMark),
                             InstanceMethod("setBindAddressNoPort", &Addon::SetBindAddressNoPort),
                             InstanceMethod("socketKind", &Addon::GetSocketKind),
                             InstanceMethod("closeFd", &Addon::CloseFd),
                             InstanceMethod("connectPrograms", &Addon::ConnectPrograms),
                             InstanceMethod("lockFile", &Addon::LockFile),
                             InstanceMethod("notifyService", &Addon::NotifyService),
                             InstanceMethod("captureDatagram", &Addon::CaptureDatagram),
                         });
    init_dial(env, exports);
    init_namespace(env, exports);
    loop_.init(env, exports);
    if (!names_.init(env, exports)) return;
    ebpf_.init(env, exports);
    init_relay(env, exports, {answer_, names_.answer(), &loop_, ebpf_.aliases()});
    init_datagram(env, exports);
    init_refusal(env, exports);
    init_proxy_header(env, exports);
  }

 private:
  // One of the addresses in the shared memory, in the order of enum Role in
  // lib/recover/kernel-answer.ts; null for anything else.
  Endpoint* RoleArgument(const Napi::CallbackInfo& info, size_t index) {
    Endpoint* const roles[] = {&answer_->scratch, &answer_->facts.original, &answer_->facts.local,
                               &answer_->facts.peer, &answer_->facts.captured};
    double value = 0;
    if (napi_get_value_double(info.Env(), info[index], &value) != napi_ok) return nullptr;
    for (size_t role = 0; role < 5; role++) {
      if (value == static_cast<double>(role)) return roles[role];
    }
    return nullptr;
  }

  static Napi::Value Text(napi_env env, const Endpoint& endpoint) {
    char text[kAddressTextSize];
    const size_t length = endpoint_text(endpoint, text);
    // Only the name of an interface can be more than ASCII, and Latin-1 is made in half the time.
    const auto create = endpoint.scope == 0 ? napi_create_string_latin1 : napi_create_string_utf8;
    napi_value value = nullptr;
    create(env, text, length, &value);
    return Napi::Value(env, value);
  }

  // (fd) → 0, and the address is in scratch; or -errno
  Napi::Value GetOriginalDst(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(),
                             original_dst(fd_argument(info), &v6_first_, &answer_->scratch));
  }

  // (fd, port of the listener that has accepted it, or nothing) → 0 or -errno; fills all of facts,
  // and, given the port, origin.
  Napi::Value ReadFacts(const Napi::CallbackInfo& info) {
    const int fd = fd_argument(info);
    Facts& facts = answer_->facts;
    facts = {};
    const bool aliased = ebpf_.aliases()->any() && ebpf_.aliases()->read_connection(fd, &facts);
    const int status = aliased ? 0 : read_facts(fd, &facts);
    answer_->origin = 0;
    if (info[1].IsNumber()) {
      const auto port = static_cast<uint16_t>(number_argument(info, 1));
      Path path = 0;
      const Origin origin =
          origin_of(fd, facts, likely_destination(facts), port, *loop_.dials(), &path);
      answer_->origin = origin_number(origin, path);
    }
    return Napi::Number::New(info.Env(), status);
  }

  // (fd) → 0 or -errno, as check_mptcp_entry(), of the connection that the facts are about
  Napi::Value CheckMptcpEntry(const Napi::CallbackInfo& info) {
    const int fd = fd_argument(info);
    const Facts& facts = answer_->facts;
    OwnedFd netlink;
    int status = open_socket_at(fd, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, &netlink);
    if (status == 0) status = check_mptcp_entry(fd, netlink.get(), facts.local, facts.peer);
    return Napi::Number::New(info.Env(), status);
  }

  // (role of a datagram's local address, of the answer) → 1: an eBPF capture knows where it was
  // going, 0: that address is no alias, or -errno
  Napi::Value CaptureDatagram(const Napi::CallbackInfo& info) {
    const Endpoint* const local = RoleArgument(info, 0);
    Endpoint* const destination = RoleArgument(info, 1);
    if (local == nullptr || destination == nullptr) return Napi::Number::New(info.Env(), -EINVAL);
    return Napi::Number::New(info.Env(), ebpf_.aliases()->find_datagram(*local, destination));
  }

  // (role) → the address as text
  Napi::Value AddressText(const Napi::CallbackInfo& info) {
    const Endpoint* const address = RoleArgument(info, 0);
    return address == nullptr ? info.Env().Undefined() : Text(info.Env(), *address);
  }

  // (listener's port, is the local address known?) → is it certain, without TypeScript, where the
  // connection that the facts are about was going? Then that is in scratch.
  Napi::Value CertainDestination(const Napi::CallbackInfo& info) {
    const auto port = static_cast<uint16_t>(number_argument(info, 0));
    const auto certain = flag_argument(info, 1) ? certain_destination : certain_without_local;
    return Napi::Boolean::New(info.Env(), certain(answer_->facts, port, &answer_->scratch));
  }

  // (address) → its one spelling, or -errno
  Napi::Value CanonicalAddress(const Napi::CallbackInfo& info) {
    char text[kTextSize];
    Endpoint address;
    const int status = text_argument(info, 0, text) ? endpoint_parse(text, 0, &address) : -EINVAL;
    return status == 0 ? Text(info.Env(), address) : Napi::Number::New(info.Env(), status);
  }

  // (family: 4 | 6, where as of call_at()) → 1, 0 or -errno
  Napi::Value ConntrackActive(const Napi::CallbackInfo& info) {
    const int family = fd_argument(info);
    int answer = 0;
    const int status = at(fd_argument(info, 1), [&] { answer = conntrack_active(family); });
    return Napi::Number::New(info.Env(), status != 0 ? status : answer);
  }

  // (where as of call_at()), as Conntrack::forget()
  void ConntrackForget(const Napi::CallbackInfo& info) { conntrack_.forget(fd_argument(info)); }

  // (IP protocol, conntrack zone, role of the local address, of the peer's, of the answer, where as
  // of call_at(), is there more to be asked, until conntrackForget()?) → the seconds that the entry
  // has left; or -errno
  Napi::Value ConntrackLookup(const Napi::CallbackInfo& info) {
    const Endpoint* const local = RoleArgument(info, 2);
    const Endpoint* const peer = RoleArgument(info, 3);
    Endpoint* const original = RoleArgument(info, 4);
    if (local == nullptr || peer == nullptr || original == nullptr) {
      return Napi::Number::New(info.Env(), -EINVAL);
    }
    const ConntrackQuestion question = {*local, *peer,
                                        static_cast<uint8_t>(number_argument(info, 0)),
                                        static_cast<uint16_t>(number_argument(info, 1))};
    const auto keep = flag_argument(info, 6) ? Conntrack::Keep::kAnywhere : Conntrack::Keep::kHere;
    ConntrackAnswer answer;
    const int status = conntrack_.lookup(fd_argument(info, 5), question, keep, &answer);
    if (status != 0) return Napi::Number::New(info.Env(), status);
    *original = answer.original;
    return Napi::Number::New(info.Env(), answer.seconds);
  }

  // (fd) → 0 or -errno, as Conntrack::confirm(), of the connection that the facts are about
  Napi::Value ConfirmEntry(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), conntrack_.confirm(fd_argument(info), answer_->facts));
  }

  // (where, address and port of a client, those that it has dialled, protocol) → does the server
  // see it at that very address? 1, 0: NAT has given it another one, or -errno
  Napi::Value ConntrackSource(const Napi::CallbackInfo& info) {
    Endpoint client;
    Endpoint dialled;
    int status = endpoint_argument(info, 1, &client);
    if (status == 0) status = endpoint_argument(info, 3, &dialled);
    ConntrackAnswer answer;
    if (status == 0) {
      const ConntrackQuestion question = {client, dialled,
                                          static_cast<uint8_t>(fd_argument(info, 5)), 0};
      status = conntrack_.lookup(fd_argument(info, 0), question, Conntrack::Keep::kHere, &answer);
    }
    if (status != 0) return Napi::Number::New(info.Env(), status);
    return Napi::Number::New(info.Env(), same_address(answer.client, client) ? 1 : 0);
  }

  // (role, where as of call_at()) → is it an address of the interfaces there? 1, 0 or -errno
  Napi::Value IsInterfaceAddress(const Napi::CallbackInfo& info) {
    const Endpoint* const address = RoleArgument(info, 0);
    if (address == nullptr) return Napi::Number::New(info.Env(), -EINVAL);
    int answer = 0;
    const int status = at(fd_argument(info, 1), [&] { answer = is_interface_address(*address); });
    return Napi::Number::New(info.Env(), status != 0 ? status : answer);
  }

  Napi::Value SetTransparent(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(),
                             set_transparent(fd_argument(info), flag_argument(info, 1)));
  }

  // (fd) → 1, 0 or -errno
  Napi::Value GetTransparent(const Napi::CallbackInfo& info) {
    bool on = false;
    const int status = get_transparent(fd_argument(info), &on);
    return Napi::Number::New(info.Env(), status != 0 ? status : on);
  }

  Napi::Value SetFreebind(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), set_freebind(fd_argument(info), flag_argument(info, 1)));
  }

  Napi::Value SetMark(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), set_mark(fd_argument(info), number_argument(info, 1)));
  }

  Napi::Value SetBindAddressNoPort(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(),
                             set_bind_address_no_port(fd_argument(info), flag_argument(info, 1)));
  }

  // (fd); Deno's node:fs closes numbers of its own, which are no descriptors.
  void CloseFd(const Napi::CallbackInfo& info) { const OwnedFd owned(fd_argument(info)); }

  // (fd) → [domain, type, protocol] or -errno
  Napi::Value GetSocketKind(const Napi::CallbackInfo& info) {
    SocketKind kind = {};
    const int status = socket_kind(fd_argument(info), &kind);
    if (status != 0) return Napi::Number::New(info.Env(), status);
    const Napi::Array fields = Napi::Array::New(info.Env(), 3);
    fields.Set(0u, kind.domain);
    fields.Set(1u, kind.type);
    fields.Set(2u, kind.protocol);
    return fields;
  }

  // (cgroup's fd, family: 4 | 6) → a number of programs or -errno
  Napi::Value ConnectPrograms(const Napi::CallbackInfo& info) {
    const int family = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 4;
    return Napi::Number::New(info.Env(), connect_programs(fd_argument(info), family));
  }

  // (fd) → 0 or -errno
  Napi::Value LockFile(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), lock_file(fd_argument(info)));
  }

  // (socket as NOTIFY_SOCKET has it, text) → 0 or -errno
  Napi::Value NotifyService(const Napi::CallbackInfo& info) {
    if (!info[0].IsString() || !info[1].IsString()) return Napi::Number::New(info.Env(), -EINVAL);
    const std::string name = info[0].As<Napi::String>();
    const std::string text = info[1].As<Napi::String>();
    return Napi::Number::New(info.Env(),
                             notify_service(name.data(), name.size(), text.data(), text.size()));
  }

  LoopGlue loop_;
  NamesGlue names_;
  EbpfGlue ebpf_;
  KernelAnswer* answer_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> answer_buffer_;
  bool v6_first_ = false;  // as of original_dst()
  Conntrack conntrack_;
};

NODE_API_ADDON(Addon)

}  // namespace original_dst
