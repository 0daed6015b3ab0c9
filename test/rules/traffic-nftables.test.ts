import { testTraffic } from '../fixtures/rule-traffic.ts';

await testTraffic(import.meta.url, 'nftables');
