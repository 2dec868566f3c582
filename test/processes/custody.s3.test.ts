import { describeCustody } from './custody.js';

describeCustody('s3');
