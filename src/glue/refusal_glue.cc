#include "glue/refusal_glue.h"

#include "datagram/refusal.h"
#include "glue/arguments.h"

namespace original_dst {

namespace {

// The sockets of one namespace; closed with the environment, if not before.
class DatagramRefusals : public Napi::ObjectWrap<DatagramRefusals> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "DatagramRefusals",
                       {
                           InstanceMethod("send", &DatagramRefusals::Send),
                           InstanceMethod("close", &DatagramRefusals::Close),
                       });
  }

  // (where as of call_at()). Afterwards `status` is 0 or -errno.
  explicit DatagramRefusals(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<DatagramRefusals>(info) {
    const int status = refusals_.open(fd_argument(info));
    info.This().As<Napi::Object>().Set("status", Napi::Number::New(info.Env(), status));
  }

 private:
  // (address and port of the client, of the destination, size of the payload) → 0 or -errno
  Napi::Value Send(const Napi::CallbackInfo& info) {
    Refused refused = {};
    int status = endpoint_argument(info, 0, &refused.client);
    if (status == 0) status = endpoint_argument(info, 2, &refused.destination);
    refused.size = static_cast<uint16_t>(number_argument(info, 4));
    if (status == 0) status = refusals_.send(refused);
    return Napi::Number::New(info.Env(), status);
  }

  void Close(const Napi::CallbackInfo&) { refusals_.close(); }

  Refusals refusals_;
};

}  // namespace

void init_refusal(Napi::Env env, Napi::Object exports) {
  exports.Set("DatagramRefusals", DatagramRefusals::Define(env));
}

}  // namespace original_dst
