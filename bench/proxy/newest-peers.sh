#!/bin/sh
# newest-peers.sh DIRECTORY [RELEASE]: HAProxy and nginx of Debian's newest release (sid), with the libraries that they
# are linked to, in a directory of their own; nothing is installed. As root. Then
#   PATH=DIRECTORY/bin:$PATH npm run bench:proxy
# compares with those: the run prints their versions.
set -eu
directory=$(mkdir -p "${1:?a directory to put them in}" && cd "$1" && pwd)
release=${2:-sid}
command -v debootstrap >/dev/null || apt-get install -qq -y --no-install-recommends debootstrap
debootstrap --variant=minbase --include=haproxy,nginx,libnginx-mod-stream "$release" "$directory/root"
mkdir "$directory/bin"
libraries=$(cd "$directory" && echo root/usr/lib/*-linux-gnu*)
loader=$(cd "$directory" && echo root/usr/lib/*-linux-gnu*/ld-linux-*.so.*)
for program in haproxy nginx; do
  # nginx looks for modules/ below its prefix.
  [ "$program" = nginx ] && prefix=" -p '$directory/root/usr/share/nginx'" || prefix=
  cat >"$directory/bin/$program" <<END
#!/bin/sh
exec '$directory/$loader' --library-path '$directory/$libraries' '$directory/root/usr/sbin/$program'$prefix "\$@"
END
  chmod +x "$directory/bin/$program"
done
