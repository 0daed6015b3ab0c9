// Real traffic through every configuration, with nftables.
import { testTraffic } from '../fixtures/rule-traffic.ts';

await testTraffic(import.meta.url, 'nftables');
