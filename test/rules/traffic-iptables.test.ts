// Real traffic through every configuration, with iptables.
import { testTraffic } from '../fixtures/rule-traffic.ts';

await testTraffic(import.meta.url, 'iptables');
