// Captures a cgroup for a proxy that is another process, until it is killed. Usage: capture-alone.js CGROUP PORT
import { attachCapture } from '../lib/ebpf/index.ts';

const [cgroup, port] = process.argv.slice(2);
attachCapture({ cgroup: cgroup!, port: Number(port) });
console.log('attached');
setInterval(() => {}, 2 ** 30);
