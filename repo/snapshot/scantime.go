package snapshot

import "time"

// stamp is a time as the JSON gives it.
type stamp struct {
	sec     int64 // since 1970 in UTC
	nsec    uint32
	zoneSec int32 // east of Greenwich
}

// zeroStamp is time.Time{}: what a missing field means to encoding/json.
var zeroStamp = stamp{sec: time.Time{}.Unix()}

// maxStampLen bounds the strings worth reading: no clock needs more digits.
const maxStampLen = len("2006-01-02T15:04:05.+07:00") + 32

// two reads two decimal digits; anything else gives a number above 99.
func two(p []byte) uint {
	a, b := uint(p[0]-'0'), uint(p[1]-'0')
	if a > 9 || b > 9 {
		return 1000
	}
	return a*10 + b
}

// parseStamp reads RFC 3339: 2006-01-02T15:04:05, a fraction or none, Z or an offset
// below 24 hours. Digits after the ninth are dropped.
func parseStamp(p []byte) (stamp, bool) {
	const head = len("2006-01-02T15:04:05")
	if len(p) < head+1 || len(p) > maxStampLen {
		return stamp{}, false
	}
	century, y, month, day := two(p), two(p[2:]), two(p[5:]), two(p[8:])
	hour, minute, second := two(p[11:]), two(p[14:]), two(p[17:])
	if p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' || p[16] != ':' ||
		century > 99 || y > 99 || hour > 23 || minute > 59 || second > 59 {
		return stamp{}, false
	}
	year := century*100 + y
	if month-1 > 11 || day-1 >= daysIn(year, month) {
		return stamp{}, false
	}
	t := stamp{sec: daysSince1970(int64(year), int64(month), int64(day))*86400 +
		int64(hour*3600+minute*60+second)}

	i := head
	if p[i] == '.' {
		i++
		scale := uint32(100_000_000)
		for ; i < len(p) && p[i]-'0' <= 9; i++ {
			t.nsec += uint32(p[i]-'0') * scale
			scale /= 10
		}
		if i == head+1 {
			return stamp{}, false
		}
	}
	switch zone := p[i:]; {
	case len(zone) == 1 && zone[0] == 'Z':
	case len(zone) == len("+07:00") && (zone[0] == '+' || zone[0] == '-') && zone[3] == ':':
		h, m := two(zone[1:]), two(zone[4:])
		if h > 23 || m > 59 {
			return stamp{}, false
		}
		t.zoneSec = int32(h*3600 + m*60)
		if zone[0] == '-' {
			t.zoneSec = -t.zoneSec
		}
		t.sec -= int64(t.zoneSec)
	default:
		return stamp{}, false
	}
	return t, true
}

// daysIn returns the length of a month, 1 to 12.
func daysIn(year, month uint) uint {
	switch {
	case month != 2:
		return 30 + (month^month>>3)&1 // the knuckles: July and August are both long
	case year%4 == 0 && (year%100 != 0 || year%400 == 0):
		return 29
	}
	return 28
}

// daysSince1970 counts the days of the Gregorian calendar. A year is taken to begin in
// March, so that the leap day is its last and every 400 years are the same.
func daysSince1970(year, month, day int64) int64 {
	if month < 3 {
		year--
		month += 12
	}
	era := year / 400
	if year < 0 {
		era = -1 // only January and February of the year 0
	}
	ofEra := year - era*400
	ofYear := (153*(month-3)+2)/5 + day - 1
	return era*146097 + ofEra*365 + ofEra/4 - ofEra/100 + ofYear - 719468
}

// clock makes a time.Time of each stamp and shares the zones.
type clock struct {
	zoneSec int32
	zone    *time.Location
}

func (c *clock) time(t stamp) time.Time {
	if t.zoneSec == 0 {
		return time.Unix(t.sec, int64(t.nsec)).UTC()
	}
	if c.zone == nil || c.zoneSec != t.zoneSec {
		c.zone, c.zoneSec = time.FixedZone("", int(t.zoneSec)), t.zoneSec
	}
	return time.Unix(t.sec, int64(t.nsec)).In(c.zone)
}
