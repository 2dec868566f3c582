import { describeReplication } from './replication.js';

describeReplication('git', { burst: 100, kills: 4 });
