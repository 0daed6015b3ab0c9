{
  "variables": {
    # `node-gyp rebuild -- -Dsanitize=address,undefined`: scripts/sanitize.js makes such builds.
    "sanitize%": ""
  },
  "targets": [
    {
      "target_name": "original_dst",
      "include_dirs": ["src", "<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8",
        "NAPI_DISABLE_CPP_EXCEPTIONS",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        # In a worker thread that is being terminated nothing can be thrown; without this the process aborts over it.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "conditions": [
        ["OS=='linux'", {
          "sources": [
            "src/ebpf/alias_table.cc",
            "src/ebpf/bpf.cc",
            "src/ebpf/capture.cc",
            "src/ebpf/port_listener.cc",
            "src/glue/addon.cc",
            "src/glue/ebpf_glue.cc",
            "src/host/cgroup_bpf.cc",
            "src/host/file_lock.cc",
            "src/conntrack/activity.cc",
            "src/conntrack/conntrack.cc",
            "src/conntrack/deletions.cc",
            "src/conntrack/flow_probe.cc",
            "src/conntrack/conntrack_message.cc",
            "src/datagram/control_message.cc",
            "src/datagram/datagram.cc",
            "src/datagram/refusal.cc",
            "src/glue/datagram_glue.cc",
            "src/glue/refusal_glue.cc",
            "src/socket/certain_destination.cc",
            "src/socket/dial.cc",
            "src/glue/dial_glue.cc",
            "src/socket/endpoint.cc",
            "src/socket/listen.cc",
            "src/socket/loopback.cc",
            "src/host/interface_address.cc",
            "src/socket/netlink.cc",
            "src/socket/original_dst.cc",
            "src/socket/proxy_header.cc",
            "src/socket/proxy_header_writer.cc",
            "src/glue/proxy_header_glue.cc",
            "src/datagram/loop_poller.cc",
            "src/datagram/poller.cc",
            "src/namespace/create.cc",
            "src/namespace/inside.cc",
            "src/namespace/socket_supply.cc",
            "src/glue/namespace_glue.cc",
            "src/names/client_hello.cc",
            "src/names/first_bytes.cc",
            "src/names/host_name.cc",
            "src/names/http_head.cc",
            "src/glue/names_glue.cc",
            "src/host/origin.cc",
            "src/host/port_claims.cc",
            "src/host/program_locks.cc",
            "src/host/recent_dials.cc",
            "src/relay/thread.cc",
            "src/relay/accept.cc",
            "src/relay/acknowledge.cc",
            "src/relay/admissions.cc",
            "src/relay/flow.cc",
            "src/relay/handshake.cc",
            "src/relay/headers.cc",
            "src/relay/inspect.cc",
            "src/glue/loop_glue.cc",
            "src/glue/readiness.cc",
            "src/glue/records_glue.cc",
            "src/glue/relay_glue.cc",
            "src/glue/relay_listener_glue.cc",
            "src/glue/route_glue.cc",
            "src/relay/listener.cc",
            "src/relay/onward.cc",
            "src/relay/pipe_pool.cc",
            "src/relay/record.cc",
            "src/relay/recording.cc",
            "src/relay/relay.cc",
            "src/relay/route.cc",
            "src/relay/serve.cc",
            "src/relay/timers.cc",
            "src/host/route.cc",
            "src/host/service_notify.cc",
            "src/socket/socket_diag.cc",
            "src/socket/socket_options.cc",
            "src/relay/verdicts.cc",
            "src/relay/watched.cc",
          ],
          "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"],
          "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
          "conditions": [
            ["sanitize==''", {
              # No library at all, see src/runtime.cc. `now`: a symbol that the process does not have
              # fails the load with its name, not a call hours later.
              "sources": ["src/runtime.cc"],
              "cflags_cc": [
                "-ffunction-sections",
                "-fdata-sections",
                # Hardening; scripts/hardening.ts checks what becomes of it. Not _FORTIFY_SOURCE, which some compilers
                # set by themselves: its __memcpy_chk and the like are glibc's alone, and musl has none. The containers
                # check their bounds without a library.
                "-U_FORTIFY_SOURCE",
                "-D_GLIBCXX_ASSERTIONS",
                "-fstack-protector-strong",
                "-fstack-clash-protection"
              ],
              "ldflags": [
                "-nostdlib",
                "-Wl,-z,now",
                "-Wl,-z,relro",
                "-Wl,-z,noexecstack",
                "-Wl,-z,text",
                "-Wl,--gc-sections",
                "-Wl,--version-script=<(module_root_dir)/src/exports.map"
              ],
              "conditions": [
                ["target_arch=='x64'", { "cflags_cc": ["-fcf-protection=full"] }],
                ["target_arch=='arm64'", { "cflags_cc": ["-mbranch-protection=standard"] }]
              ]
            }, {
              "cflags_cc": ["-fsanitize=<(sanitize)", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"],
              "cflags_cc!": ["-O3"],
              "ldflags": ["-fsanitize=<(sanitize)"]
            }],
            # Files are large by themselves here; asked for it, glibc gives open64 for open, and musl has none.
            ["target_arch=='x64' or target_arch=='arm64'", {
              "defines!": ["_FILE_OFFSET_BITS=64", "_LARGEFILE_SOURCE"]
            }],
            # The default calls helpers of libgcc, and those call a function that only glibc has.
            ["target_arch=='arm64'", {
              "cflags_cc": ["-mno-outline-atomics"]
            }]
          ]
        }, {
          # Elsewhere the package imports and every call says ERR_UNSUPPORTED_PLATFORM; there is nothing to compile.
          "type": "none"
        }]
      ]
    }
  ]
}
