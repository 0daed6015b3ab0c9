{
  "variables": {
    # `node-gyp rebuild -- -Dsanitize=address,undefined`: scripts/sanitize.js makes such builds.
    "sanitize%": ""
  },
  "targets": [
    {
      "target_name": "original_dst",
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
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
            "src/addon.cc",
            "src/cgroup_bpf.cc",
            "src/conntrack.cc",
            "src/conntrack_message.cc",
            "src/control_message.cc",
            "src/datagram.cc",
            "src/datagram_glue.cc",
            "src/dial.cc",
            "src/dial_glue.cc",
            "src/endpoint.cc",
            "src/listen.cc",
            "src/local_address.cc",
            "src/original_dst.cc",
            "src/poller.cc",
            "src/port_claims.cc",
            "src/relay.cc",
            "src/relay_accept.cc",
            "src/relay_flow.cc",
            "src/relay_glue.cc",
            "src/relay_listener.cc",
            "src/relay_pipe.cc",
            "src/relay_timers.cc",
            "src/route.cc",
            "src/socket_options.cc",
            "src/verdicts.cc"
          ],
          "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"],
          "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
          "conditions": [
            ["sanitize==''", {
              # No library at all, see src/runtime.cc. `now`: a symbol that the process does not have
              # fails the load with its name, not a call hours later.
              "sources": ["src/runtime.cc"],
              "cflags_cc": ["-ffunction-sections", "-fdata-sections"],
              "ldflags": [
                "-nostdlib",
                "-Wl,-z,now",
                "-Wl,--gc-sections",
                "-Wl,--version-script=<(module_root_dir)/src/exports.map"
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
