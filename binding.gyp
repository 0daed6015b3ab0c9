{
  "targets": [
    {
      "target_name": "original_dst",
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "conditions": [
        ["OS=='linux'", {
          "sources": [
            "src/addon.cc",
            "src/endpoint.cc",
            "src/local_address.cc",
            "src/original_dst.cc",
            "src/socket_options.cc"
          ],
          "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"],
          "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"]
        }, {
          # Elsewhere the package imports and every call says ERR_UNSUPPORTED_PLATFORM; there is nothing to compile.
          "type": "none"
        }]
      ]
    }
  ]
}
