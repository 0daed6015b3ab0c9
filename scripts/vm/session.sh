# The first process of the virtual machine once its root is there.
B=/run/busybox
. /run/machine
for try in 1 2 3 4 5 6 7 8 9; do
  [ -e /dev/vport0p1 ] || [ -e /dev/vport1p1 ] || [ -e /dev/vport2p1 ] && break
  $B sleep 0.1
done
exec >"$(echo /dev/vport?p1)" 2>&1

echo "@kernel $($B uname -r) $($B uname -m) $("$NODE" --version)"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TERM=dumb CI=true
export PREBUILDS_ONLY=1
cd "$PROJECT" || $B poweroff -f
for program in scenarios ebpf-scenarios capture-scenarios; do
  # One that does not get to its end has outcomes missing, which nobody would miss.
  $B timeout 2400 "$NODE" dist/test/fixtures/programs/$program.js </dev/null ||
    echo "{\"name\":\"$program\",\"status\":\"failed\",\"detail\":\"exit status $?\"}"
done
echo @end
$B sync
$B poweroff -f
