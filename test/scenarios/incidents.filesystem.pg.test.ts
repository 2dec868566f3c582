import { playIncidents } from './play-incidents.js';

playIncidents('filesystem', 'postgres');
