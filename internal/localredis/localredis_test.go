package localredis_test

import (
	"strings"
	"testing"

	"github.com/lapse-access/lapse/internal/localredis/localredistest"
)

func TestEveryInstalledVersion(t *testing.T) {
	for _, b := range localredistest.Find(t) {
		t.Run(b.Version, func(t *testing.T) {
			s := localredistest.Start(t, b)
			admin := s.Admin()
			defer admin.Close()
			if info := admin.Info(t.Context(), "server").Val(); !strings.Contains(info, "redis_version:"+b.Version) {
				t.Errorf("want version %s: %s", b.Version, info)
			}
			if err := admin.Do(t.Context(), "ACL", "SETUSER", "ana", "on", ">secret", "+get", "~*").Err(); err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				user, password string
				encrypted, may bool
			}{{"ana", "secret", false, true}, {"ana", "secret", true, true}, {"ana", "wrong", true, false}, {"default", "", false, false}} {
				c := s.Client(test.user, test.password, test.encrypted)
				if err := c.Get(t.Context(), "key").Err(); (err != nil && err.Error() == "redis: nil") != test.may {
					t.Errorf("%+v: %v", test, err)
				}
				if err := c.Set(t.Context(), "key", "value", 0).Err(); err == nil {
					t.Errorf("%+v: may write", test)
				}
				c.Close()
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if admin.Ping(t.Context()).Err() == nil {
				t.Error("the server answers after Stop")
			}
		})
	}
}
