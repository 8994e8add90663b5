package tzinfo
import ("testing";"time";"archive/zip";"bytes")
func FuzzZZ(f *testing.F){
	archive, _ := zip.NewReader(bytes.NewReader(zoneinfo(f)), int64(len(zoneinfo(f))))
	for i := 0; i < len(archive.File); i += 40 { content, _ := contentOf(archive.File[i]); f.Add(content) }
	f.Fuzz(func(t *testing.T, c []byte){ d:=make(chan int); go func(){ parse("Fuzz",c); close(d)}(); select{case <-d: case <-time.After(3*time.Second): panic("slow")}})
}
