import { describeReplication } from './replication.js';

describeReplication('postgres', { burst: 500, kills: 12 });
