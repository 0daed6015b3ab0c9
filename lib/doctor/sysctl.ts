// Settings under /proc/sys.
import type { Host } from './host.ts';

/** A setting under /proc/sys as a number; undefined where this kernel has none. `net.ipv4.ip_forward` */
export function sysctl(host: Host, name: string): number | undefined {
  const text = host.read(`/proc/sys/${name.replaceAll('.', '/')}`)?.trim();
  return text === undefined || text === '' ? undefined : Number(text);
}

/** The value of a setting of net.ipv4.conf for every interface, without the entries `all` and `default`. */
export function perInterface(host: Host, name: string): { device: string; value: number }[] {
  const folder = '/proc/sys/net/ipv4/conf';
  return host
    .list(folder)
    .filter((device) => device !== 'all' && device !== 'default')
    .flatMap((device) => {
      // Not by sysctl(): an interface's name may hold a dot (eth0.100).
      const text = host.read(`${folder}/${device}/${name}`);
      return text === undefined ? [] : [{ device, value: Number(text) }];
    });
}
